"""The progress bar on stderr: rows, rows per second, time left."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tqdm import tqdm

LOG_S: Final = 30.0
"""Seconds between two lines where stderr is not a terminal."""

LOG_FORMAT: Final = "{percentage:3.0f} % {n_fmt} rows, {rate_fmt}, {remaining} left\n"


class Progress:
    """Counts rows. A stderr that was closed does not stop the run."""

    def __init__(self, bar: "tqdm[object]") -> None:
        self._bar = bar

    def expect(self, rows: int, fraction: float | None) -> None:
        """Estimate the total from the rows read so far and their share of the file, if it is known."""
        self._bar.total = max(rows, round(rows / fraction)) if fraction else None

    def advance(self, rows: int) -> None:
        """Count finished rows."""
        with suppress(OSError, ValueError):
            self._bar.update(rows)


@contextmanager
def progress_bar(done: int) -> Iterator[Progress]:
    """A bar while the block runs, and its last state on a line of its own if the block succeeds.

    Args:
        done: rows that an earlier run has finished.
    """
    terminal = sys.stderr.isatty()
    bar = tqdm(
        initial=done,
        unit=" rows",
        mininterval=0.2 if terminal else LOG_S,
        delay=0.2 if terminal else LOG_S,
        bar_format=None if terminal else LOG_FORMAT,
        leave=False,
    )
    try:
        yield Progress(bar)
    finally:
        with suppress(OSError, ValueError):
            bar.close()
    with suppress(OSError, ValueError):
        bar.total = bar.n
        print(str(bar).rstrip("\n"), file=sys.stderr)
