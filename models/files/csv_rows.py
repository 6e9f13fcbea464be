"""CSV cut into records. Separator and quoting are found in its first bytes."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from models.files.errors import InputBroken, InvalidRows
from models.files.records import MAX_ROW_BYTES, REQUIRED, TOO_LONG, Line, Record, lines

MAX_ROW_LINES: Final = 1000
"""Lines of the longest row. An open quote must not swallow the file, and each line is read at most this
often."""
SEPARATORS: Final = (",", ";", "\t")
_EXCEL_SEPARATOR: Final = re.compile(r"sep=(.)\s*\Z")
_QUOTING: Final = re.compile(r'"|\\["\\]')
_ESCAPED: Final = re.compile(r'\\"[^",;\t\s]')
_DOUBLED: Final = re.compile(r'[^",;\t\s]""[^",;\t\s]')


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are written.

    Attributes:
        separator: between two cells.
        backslash: whether a quote within a cell is written after a backslash, as Spark does, and not twice.
    """

    separator: str = ","
    backslash: bool = False

    @classmethod
    def of(cls, head: str) -> "Dialect":
        """Found in the beginning of a file: its header, and how quotes in the first rows are written."""
        backslash = len(_ESCAPED.findall(head)) > len(_DOUBLED.findall(head))
        header = next((line for line in head.splitlines() if line.strip()), "")
        if named := _EXCEL_SEPARATOR.match(header):
            return cls(named[1], backslash)
        return cls(max(SEPARATORS, key=lambda separator: _required(header, separator)), backslash)


def _required(header: str, separator: str) -> int:
    """How many required columns a header names."""
    cells = next(csv.reader([header], delimiter=separator), [])
    return sum(cell.strip() in REQUIRED for cell in cells)


def read_csv(chunks: Iterable[bytes], name: str, dialect: Dialect = Dialect()) -> Iterator[Record]:
    """Rows under a header, as the competition has them; cells may be quoted and hold commas, quotes and line
    breaks.

    A row that cannot be read costs only its first line. The lines after it, which an open quote took with
    it, are read again.

    Args:
        name: of the file, for the error message.

    Raises:
        InvalidRows: the first row does not name each required column once.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))  # `_Feed` has the stricter limit
    feed = _Feed(lines(chunks), dialect.backslash)
    rows = csv.reader(feed, delimiter=dialect.separator, strict=True)
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
            if fault or (cells and not _EXCEL_SEPARATOR.match(dialect.separator.join(cells))):
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
    for column in REQUIRED:
        if not fault and columns.count(column) != 1:
            fault = f"it {'names no column' if column not in columns else 'names twice the column'} {column}"
    if fault:
        raise InvalidRows(f"{name}: the first row is not the header of a competition CSV: {fault}")
    return columns


class _TooLong(Exception):
    pass


class _Feed:
    """Lines for a CSV reader. It remembers the lines of the current row and can give them back."""

    def __init__(self, lines: Iterator[Line], backslash: bool) -> None:
        self.taken: list[Line] = []
        self.size = 0
        self.broken: InputBroken | None = None
        self._lines = lines
        self._backslash = backslash
        self._quoted = False
        self._again: deque[Line] = deque()

    def begin(self) -> None:
        """A new row."""
        self.taken.clear()
        self.size = 0
        self._quoted = False

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
        text = line.text.decode("utf-8", "replace") + "\n"
        return _QUOTING.sub(self._doubled, text) if self._backslash else text

    def _doubled(self, match: re.Match[str]) -> str:
        """A quote after a backslash as two quotes, and two backslashes as one, but only within quotes."""
        found = match[0]
        if found == '"':
            self._quoted = not self._quoted
        elif self._quoted:
            return '""' if found == '\\"' else "\\"
        elif found == '\\"':
            self._quoted = True
        return found

    def give_back(self, fault: str) -> str:
        """Give back all lines of the row but the first; returns the fault, which belongs to the first
        line."""
        while len(self.taken) > 1:
            self._again.appendleft(self.taken.pop())
        return fault


def _utf8_fault(line: Line) -> str | None:
    try:
        (line.text or b"").decode()
    except UnicodeDecodeError as error:
        return f"not text in the file's encoding at byte {error.start + 1} of line {line.number}"
    return None
