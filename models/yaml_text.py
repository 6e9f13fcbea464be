"""Reads YAML that a stranger can have written: every fault is one plain line."""

from pathlib import Path
from typing import Any

import yaml

from models.errors import UserError


class InvalidYaml(UserError, ValueError):
    """A file or a text that is not YAML. The message is one line that names it."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InvalidYaml: the file is missing or not YAML; the message names it.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidYaml(f"{path}: {' '.join(str(error).split())}") from None


def parse_yaml(text: str, where: str) -> Any:
    """The content of YAML text.

    Raises:
        InvalidYaml: the text is not YAML; the message starts with `where`.
    """
    try:
        return yaml.load(text, _WithoutAliases)
    except RecursionError:
        raise InvalidYaml(f"{where}: it is nested too deeply") from None
    # Not YAML's own errors: a date that does not exist, an integer without digits, a list as a key.
    except (yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise InvalidYaml(f"{where}: {' '.join(str(error).split())[:300]}") from None


class _WithoutAliases(yaml.SafeLoader):
    """A few lines of aliases can stand for gigabytes, or for themselves."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not allowed; write the value out")
        return super().compose_node(parent, index)
