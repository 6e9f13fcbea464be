"""The frame of every training command: its parser, the recipe argument, and how the command ends.

The commands and this file import the standard library only. So `--help` answers at once, and a wrong
argument is refused before PyTorch is loaded.
"""

import importlib.util
import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

REQUIRED: Final = ("torch", "transformers", "yaml")
"""Packages that serving does not install."""


class CommandParser(ArgumentParser):
    """A parser that reports a wrong argument on one line.

    Args:
        name: the command's name in `python -m training.NAME`.
        text: what the command does, with an example of a call.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(
            prog=f"python -m training.{name}",
            description=text,
            formatter_class=RawDescriptionHelpFormatter,
        )
        self.name = name

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"training.{self.name}: {message} (--help lists the options)\n")

    def add_recipe(self, text: str = "") -> None:
        """The arguments RECIPE and --set FIELD=VALUE."""
        self.add_argument(
            "recipe",
            type=Path,
            metavar="RECIPE",
            help=text or "the recipe, a YAML file; docs/recipe.md describes its fields",
        )
        self.add_settings()

    def add_settings(self) -> None:
        """The options --set FIELD=VALUE, which can be repeated, and --encoder. Both add to one list."""
        self.add_argument(
            "--set",
            action="append",
            default=[],
            type=_setting,
            metavar="FIELD=VALUE",
            help="override one field of the recipe; can be repeated",
        )

        self.add_argument(
            "--encoder",
            action="append",
            dest="set",
            type=lambda text: ("encoder", json.dumps(text)),
            metavar="FOLDER",
            help="replaces the recipe's encoder; a folder or a name on the hub",
        )

    def add_dry_run(self) -> None:
        """The option --dry-run."""
        self.add_argument(
            "--dry-run",
            action="store_true",
            help="train nothing; print steps, tokens, memory and time for this machine. The encoder's folder "
            "needs its config and tokenizer only",
        )

    def run(self, work: Callable[[], Mapping[str, Any]]) -> int:
        """Do the command's work and print its summary as one JSON object.

        `work` imports what it needs, so nothing heavy is loaded before this call.

        Returns:
            The exit status: 0, or that of the user's error, which is printed on one line of stderr.
        """
        if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
            return self._fail(f"{' and '.join(missing)} not installed; run: make .venv/develop")
        # transformers warns of each layer and head that a recipe leaves out on purpose
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

        from models.example import InvalidExample
        from models.rows import InvalidRows
        from models.yaml_text import InvalidYaml
        from training.errors import TrainingError

        try:
            summary = work()
        except (TrainingError, InvalidYaml, InvalidRows, InvalidExample, OSError) as error:
            return self._fail(str(error), getattr(error, "exit_status", 2))
        print(json.dumps(summary))
        return 0

    def _fail(self, message: str, status: int = 2) -> int:
        print(f"training.{self.name}: {' '.join(message.split())}", file=sys.stderr)
        return status


def whole_number(low: int) -> Callable[[str], int]:
    """An argument type: a whole number from `low` on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise ArgumentTypeError(f"a whole number from {low} on is required, not {text!r}")
        return int(text)

    return parse


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"FIELD=VALUE is required, not {text!r}")
    return name, value
