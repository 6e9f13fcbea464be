"""The frame of every training command: the recipe argument, and what has to be installed."""

import importlib.util
import json
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from models.command import CommandParser
from models.errors import UserError

REQUIRED: Final = ("torch", "transformers", "yaml")
"""Packages that serving does not install."""


class TrainingParser(CommandParser):
    """The parser of a training command."""

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
        """As `CommandParser.run`, once the packages of training are there."""
        if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
            return self.fail(UserError(f"{' and '.join(missing)} not installed; run: make .venv/develop"))
        # transformers warns of each layer and head that a recipe leaves out on purpose
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        return super().run(work)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"FIELD=VALUE is required, not {text!r}")
    return name, value
