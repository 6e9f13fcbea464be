"""A progress bar on stderr: rows, rows a second, time left. On a terminal it moves; elsewhere it is a line
now and then."""

import sys
import time
from contextlib import suppress
from typing import Final, TextIO

WIDTH: Final = 24  # characters of the bar
TERMINAL_S: Final = 0.2
LOG_S: Final = 30.0
"""Seconds between two drawings: a log needs fewer than an eye."""


class Progress:
    """Counts rows.

    Args:
        done: rows that an earlier run has finished.
        stream: where to draw; stderr by default.
    """

    def __init__(self, done: int = 0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._moving = self._stream.isatty()
        self._done = self._before = done
        self._began = self._drawn = time.monotonic()
        self._total: float | None = None

    def expect(self, rows: int, fraction: float | None) -> None:
        """So many rows were read, which are so much of the file."""
        self._total = rows / fraction if fraction else None

    def advance(self, rows: int) -> None:
        """So many rows more are finished."""
        self._done += rows
        now = time.monotonic()
        if now - self._drawn >= (TERMINAL_S if self._moving else LOG_S):
            self._drawn = now
            self._draw("\r" if self._moving else "", "" if self._moving else "\n")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The last drawing; after an error only a new line for its message."""
        if kind is None:
            self._total = self._done
            self._draw("\r" if self._moving else "", "\n")
        elif self._moving:
            self._write("\n")

    def _draw(self, before: str, after: str) -> None:
        rate = (self._done - self._before) / max(1e-9, time.monotonic() - self._began)
        text = f"{self._done:,} rows, {rate:.1f} rows/s"
        if self._total is not None:
            share = min(1.0, self._done / max(1.0, self._total))
            left = _clock(max(0.0, self._total - self._done) / rate) if rate else "unknown"
            text = f"{100 * share:3.0f} % [{'#' * round(WIDTH * share):<{WIDTH}}] {text}, {left} left"
        self._write(f"{before}{text}{'   ' if before else ''}{after}")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # nobody looks any more; the rows go on
            self._stream.write(text)
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
