"""A record: one row as it is in its file. And text cut into lines, in bounded memory.

Here a record is only found; `rows.py` checks it. A row that is not JSON, or that is too long, is a record
with its place in the file. So a fault in one row never costs another row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from models.files.errors import InputBroken
from models.files.forms import InputForm

MAX_ROW_BYTES: Final = 4 * 1024 * 1024
"""As the default limit of a request over HTTP."""

TOO_LONG: Final = f"the row is longer than {MAX_ROW_BYTES // 1024 // 1024} MiB"
REQUIRED: Final = ("sentence", "subject_entity", "object_entity")
"""The columns that a file of rows must have."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it is in the file.

    Attributes:
        line: its first line, counted from 1; `None` in Parquet and Arrow, which have no lines.
        content: JSON text, or the row's cells by column.
        fault: why it cannot be parsed, or `None`.
    """

    line: int | None
    content: bytes | Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An open file of rows.

    Attributes:
        records: its rows, read once from first to last. Raises `InputBroken` where the file breaks off.
        form: that was found.
        encoding: of its text; `None` in Parquet and Arrow.
        fraction: the share of the file that is read, or `None` if its size is not known.
        close: closes the file.
    """

    records: Iterator[Record]
    form: InputForm
    encoding: str | None
    fraction: Callable[[], float | None]
    close: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text. Its text is `None` if it is too long to be kept."""

    number: int
    text: bytes | None


def lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """Lines of UTF-8 text, without their ends.

    Raises:
        InputBroken: the text breaks off; the error has the line.
    """
    number, size = 1, 0
    parts: list[bytes] = []
    try:
        for chunk in chunks:
            *whole, rest = chunk.split(b"\n")
            for text in whole:
                fits = size + len(text) <= MAX_ROW_BYTES
                yield Line(number, b"".join([*parts, text]) if fits else None)
                number, parts, size = number + 1, [], 0
            size += len(rest)
            parts = [*parts, rest] if size <= MAX_ROW_BYTES else []
    except InputBroken as error:
        raise InputBroken(str(error), number) from None
    if size:
        yield Line(number, b"".join(parts) if size <= MAX_ROW_BYTES else None)
