"""The arguments that several export commands have."""

import argparse
from pathlib import Path

from models.command import CommandParser
from models.hub import on_hub


class ExportParser(CommandParser):
    """The parser of an export command."""

    def add_bundle(self) -> None:
        """A bundle that is read."""
        self.add_argument(
            "bundle", metavar="BUNDLE", help="the bundle: a folder, or hf://owner/name@revision"
        )

    def add_bundle_folder(self) -> None:
        """A bundle that is changed, or uploaded."""
        self.add_argument("bundle", type=_folder, metavar="BUNDLE", help="folder of the bundle")

    def add_rows(self, flag: str, text: str, required: bool = False) -> None:
        """An option that names a file of labelled rows."""
        self.add_argument(flag, type=Path, metavar="ROWS.jsonl", required=required, help=text)


def _folder(text: str) -> Path:
    if on_hub(text):
        raise argparse.ArgumentTypeError(f"{text} is on the hub; name a folder of this machine")
    return Path(text)
