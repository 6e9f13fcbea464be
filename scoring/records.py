"""Cuts a text input into records, one per row, in bounded memory: JSON lines, one JSON array, or CSV.

Here a record is only found; `scoring.rows` parses it. A row that is not JSON, or that is too long, is a
record with its place in the file. So a fault in one row never costs another row.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scoring.errors import InputBroken, Refused

MAX_ROW_BYTES: Final = 4 * 1024 * 1024
"""As the default limit of a request over HTTP."""
MAX_ROW_LINES: Final = 1000
"""Lines of the longest CSV row. An open quote must not swallow the file, and each line is read at most this
often."""

TOO_LONG: Final = f"the row is longer than {MAX_ROW_BYTES // 1024 // 1024} MiB"
ENTITY_COLUMNS: Final = ("sentence", "subject_entity", "object_entity")


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it is in the file.

    Attributes:
        line: its first line, counted from 1; `None` in Parquet, which has no lines.
        content: JSON text, or the row's cells by column.
        fault: why it cannot be parsed, or `None`.
    """

    line: int | None
    content: bytes | Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An open input.

    Attributes:
        records: its rows, read once from first to last. Raises as the readers below.
        fraction: the share of the input that is read, or `None` if its size is not known.
        close: closes the file.
    """

    records: Iterator[Record]
    fraction: Callable[[], float | None]
    close: Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: bytes | None  # `None`: too long to be kept


def read_json_lines(chunks: Iterable[bytes]) -> Iterator[Record]:
    """One JSON document per line. Blank lines are skipped."""
    for line in _lines(chunks):
        if line.text is None:
            yield Record(line.number, b"", TOO_LONG)
        elif line.text.strip():
            yield Record(line.number, line.text)


def _lines(chunks: Iterable[bytes]) -> Iterator[_Line]:
    number, size = 1, 0
    parts: list[bytes] = []
    try:
        for chunk in chunks:
            *whole, rest = chunk.split(b"\n")
            for text in whole:
                fits = size + len(text) <= MAX_ROW_BYTES
                yield _Line(number, b"".join([*parts, text]) if fits else None)
                number, parts, size = number + 1, [], 0
            size += len(rest)
            parts = [*parts, rest] if size <= MAX_ROW_BYTES else []
    except InputBroken as error:
        raise InputBroken(str(error), number) from None
    if size:
        yield _Line(number, b"".join(parts) if size <= MAX_ROW_BYTES else None)


_OUTSIDE: Final = re.compile(rb'["{}\[\],]')
_INSIDE: Final = re.compile(rb'["\\]')


def read_json_array(chunks: Iterable[bytes]) -> Iterator[Record]:
    """The elements of one JSON array.

    Their ends are found by counting brackets outside strings. So an element that is not JSON does not hide
    the next one.

    Raises:
        InputBroken: the file ends before the array does, or continues after it.
    """
    element = _Element()
    depth, quoted, escaped, line, elements = 0, False, False, 1, 0
    try:
        for chunk in chunks:
            place = start = 0
            if escaped:
                place, escaped = 1, False
            while depth >= 0 and (found := (_INSIDE if quoted else _OUTSIDE).search(chunk, place)):
                place, sign = found.end(), found.group()
                if sign == b"\\":
                    place, escaped = place + 1, place == len(chunk)
                elif sign == b'"':
                    quoted = not quoted
                elif sign in b"{[":
                    depth += 1
                    if depth == 1:
                        line += chunk.count(b"\n", start, place)
                        start = place
                # only ] closes the array
                elif (sign == b"," and depth > 1) or (sign == b"}" and depth == 1):
                    continue
                else:
                    depth -= sign != b","
                    if depth > 1 or (depth == 1 and sign != b","):
                        continue
                    element.add(chunk[start : place - 1])
                    if not (depth == 0 and not elements and element.blank):  # `[]` has no element
                        yield element.record(line)
                    line += element.lines
                    start, elements, element = place, elements + 1, _Element()
                    depth = depth or -1
            element.add(chunk[start:])
    except InputBroken as error:
        raise InputBroken(str(error), line + element.leading) from None
    if depth != -1:
        if not element.blank:
            yield element.record(line)
        raise InputBroken("the file ends before the JSON array does", line + element.leading)
    if not element.blank:
        raise InputBroken("there is more after the end of the JSON array", line + element.leading)


class _Element:
    """The text between two commas, as far as it is read."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.lines = 0
        self.leading = 0  # lines of white space before it
        self.blank = True

    def add(self, text: bytes) -> None:
        if self.blank:
            text_begins = len(text) - len(text.lstrip())
            self.leading += text.count(b"\n", 0, text_begins)
            self.lines += text.count(b"\n", 0, text_begins)
            text = text[text_begins:]
            self.blank = not text
        self.lines += text.count(b"\n")
        self.size += len(text)
        self.parts = [*self.parts, text] if self.size <= MAX_ROW_BYTES else []

    def record(self, line: int) -> Record:
        fault = (
            TOO_LONG
            if self.size > MAX_ROW_BYTES
            else "there is no value between two commas"
            if self.blank
            else None
        )
        return Record(line + self.leading, b"".join(self.parts), fault)


def read_csv(chunks: Iterable[bytes], name: str) -> Iterator[Record]:
    """Rows under a header, as the competition has them; cells may be quoted and hold commas, quotes and line
    breaks.

    A row that cannot be read costs only its first line. The lines after it, which an open quote took with
    it, are read again.

    Args:
        name: of the file, for the error message.

    Raises:
        Refused: the first row does not name each required column once.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))  # `_Feed` has the stricter limit
    feed = _Feed(_lines(chunks))
    rows = csv.reader(feed, strict=True)
    columns: list[str] | None = None
    while True:
        feed.begin()
        fault = None
        cells: list[str] = []
        try:
            cells = next(rows)
        except StopIteration:
            break
        except _TooLong:
            fault = feed.give_back(TOO_LONG)
        except csv.Error as error:
            fault = feed.give_back(f"not CSV: {error}")
        line = feed.taken[0].number
        fault = fault or next((reason for taken in feed.taken if (reason := _utf8_fault(taken))), None)
        if columns is None:
            columns = _check_header(cells, name, fault)
        elif fault:
            yield Record(line, {}, fault)
        elif cells:
            fault = (
                None
                if len(cells) == len(columns)
                else f"the row has {len(cells)} cells, the header {len(columns)}"
            )
            yield Record(line, dict(zip(columns, cells, strict=False)), fault)
    if feed.broken:
        raise feed.broken
    if columns is None:
        _check_header([], name)


def _check_header(cells: list[str], name: str, fault: str | None = None) -> list[str]:
    columns = [cell.strip() for cell in cells]
    for column in ENTITY_COLUMNS:
        if not fault and columns.count(column) != 1:
            fault = f"it {'names no column' if column not in columns else 'names twice the column'} {column}"
    if fault:
        raise Refused(f"{name}: the first row is not the header of a competition CSV: {fault}")
    return columns


class _TooLong(Exception):
    pass


class _Feed:
    """Lines for a CSV reader. It remembers the lines of the current row and can give them back."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self.taken: list[_Line] = []
        self.size = 0
        self.broken: InputBroken | None = None
        self._lines = lines
        self._again: deque[_Line] = deque()

    def begin(self) -> None:
        """A new row."""
        self.taken.clear()
        self.size = 0

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        try:
            line = self._again.popleft() if self._again else next(self._lines)
        except InputBroken as error:
            self.broken = error
            raise StopIteration from None
        self.taken.append(line)
        self.size += len(line.text or b"")
        if line.text is None or self.size > MAX_ROW_BYTES or len(self.taken) > MAX_ROW_LINES:
            raise _TooLong
        return line.text.decode("utf-8", "replace") + "\n"

    def give_back(self, fault: str) -> str:
        """Give back all lines of the row but the first; returns the fault, which belongs to the first
        line."""
        while len(self.taken) > 1:
            self._again.appendleft(self.taken.pop())
        return fault


def _utf8_fault(line: _Line) -> str | None:
    try:
        (line.text or b"").decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start + 1} of line {line.number}"
    return None
