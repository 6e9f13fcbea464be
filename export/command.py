"""The frame of every export command: its parser, and how the command ends.

Nothing heavy is imported here, so --help answers at once and a wrong argument is refused before PyTorch is
loaded.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from export.errors import ExportFailed
from models.hub import on_hub

USER_ERROR = 2


class ExportParser(argparse.ArgumentParser):
    """A parser that reports a wrong argument on one line.

    Args:
        command: `export`, or `export.` and the name of its module.
        text: the module's docstring. Its first line is the summary; --help shows the rest after the options.
    """

    def __init__(self, command: str, text: str) -> None:
        summary, _, rest = text.partition("\n")
        super().__init__(
            prog=f"python -m {command}",
            description=summary,
            epilog=rest,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.command = command

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.command}: {message} (--help lists the options)\n")

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

    def run(self, work: Callable[[], Mapping[str, Any]]) -> int:
        """Do the command's work and print its summary as one JSON object.

        `work` imports the libraries that it needs, so none is loaded before this call.

        Returns:
            The exit status: 0, or 2 after an error on one line of stderr.
        """
        from models.bundle import BundleRefused
        from models.ensemble import DeviceUnavailable
        from models.example import InvalidExample
        from models.rows import InvalidRows

        try:
            summary = work()
        except (
            ExportFailed,
            BundleRefused,
            DeviceUnavailable,
            InvalidRows,
            InvalidExample,
            OSError,
        ) as error:
            return self.fail(error)
        print(json.dumps(summary))
        return 0

    def fail(self, error: Exception) -> int:
        """Print an error on one line of stderr; returns the exit status."""
        print(f"{self.command}: {error}", file=sys.stderr)
        return USER_ERROR


def _folder(text: str) -> Path:
    if on_hub(text):
        raise argparse.ArgumentTypeError(f"{text} is on the hub; name a folder of this machine")
    return Path(text)


def positive_numbers(text: str) -> tuple[float, ...]:
    """Reads the value of an option, such as `1,2.5`.

    Raises:
        ArgumentTypeError: a part is no number above 0.
    """
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers are required, not {text!r}") from None
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"positive numbers are required, not {text!r}")
    return numbers
