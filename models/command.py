"""The frame of the commands of training, export and scoring: parser, types of arguments, how a command
ends.

It imports the standard library only. So --help answers at once, and a wrong argument is refused before
anything heavy is loaded.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from models.errors import UserError


class CommandParser(argparse.ArgumentParser):
    """A parser that reports a wrong argument on one line.

    Args:
        command: the module that `python -m` runs.
        text: its docstring. The first line is the summary; --help shows the rest after the options.
    """

    def __init__(self, command: str, text: str | None) -> None:
        summary, _, rest = (text or "").partition("\n")
        super().__init__(
            prog=f"python -m {command}",
            description=summary,
            epilog=rest,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.command = command

    def error(self, message: str) -> NoReturn:
        self.exit(UserError.exit_status, f"{self.command}: {message} (--help lists the options)\n")

    def fail(self, error: Exception) -> int:
        """As `fail`."""
        return fail(self.command, error)

    def run(self, work: Callable[[], Mapping[str, Any]]) -> int:
        """Do the command's work and print its summary as one JSON object on stdout.

        `work` imports the libraries that it needs, so none is loaded before this call.

        Returns:
            The exit status: 0, or that of the user's error, which is printed on one line of stderr.
        """
        try:
            summary = work()
        except (UserError, OSError) as error:
            return self.fail(error)
        print(json.dumps(summary))
        return 0


def fail(command: str, error: Exception | str) -> int:
    """Print an error on one line of stderr; returns the exit status."""
    print(f"{command}: {' '.join(str(error).split())}", file=sys.stderr)
    return getattr(error, "exit_status", UserError.exit_status)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number from `least` on, or up to `most`."""
    wanted = f"from {least} on" if most is None else f"from {least} to {most:,}"

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= (most or int(text)):
            raise argparse.ArgumentTypeError(f"a whole number {wanted} is required, not {text!r}")
        return int(text)

    return read


def share(text: str) -> float:
    """An argument type: a number above 0 and up to 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"a number above 0 and up to 1 is required, not {text!r}")
    return number


def positive_numbers(text: str) -> tuple[float, ...]:
    """An argument type: numbers above 0, such as `1,2.5`."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = (0.0,)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"positive numbers such as 1,3 are required, not {text!r}")
    return numbers
