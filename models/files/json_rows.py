"""JSON cut into records: lines of JSON, one array, or an array under a key of one object."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, Literal

from models.files.errors import InputBroken, InvalidRows
from models.files.records import MAX_ROW_BYTES, TOO_LONG, Record, lines

Shape = Literal["lines", "array"]

_KEY: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_COMMA: Final = re.compile(r"\s*,")
_ROWS: Final = re.compile(r"\[\s*(?:\{|$)")
_LISTS: Final = re.compile(r"\[\s*\[")
_BY_NUMBER: Final = re.compile(r'\{\s*"0"\s*:')
_ONE_ROW_EACH: Final = "write one object for each row (pandas: to_json(orient='records', force_ascii=False))"


def shape(head: str, name: str) -> tuple[Shape, int]:
    """How rows are arranged in a JSON text, and where their array begins in it.

    1. A first line that is a whole document, with more lines after it: lines.
    2. `[`: an array.
    3. An object with a list of objects under a key: that array.
    4. Otherwise lines.

    Args:
        head: the beginning of the text, without space before it.
        name: of the file, for the error message.

    Raises:
        InvalidRows: it has columns of values in place of rows, or a row over several lines.
    """
    first, _, rest = head.partition("\n")
    document = _whole_document(first)
    if isinstance(document, dict) and isinstance(document.get("sentence"), str):
        return "lines", 0
    if document is not None and rest.strip():
        return "lines", 0
    if head.startswith("["):
        return "array", 0
    if (place := _wrapped_array(head, name)) is not None:
        return "array", place
    if document is None and (row := _first_document(head)) is not None and "sentence" in row:
        raise InvalidRows(f"{name}: a row has several lines; write one row on each line (jq -c .)")
    return "lines", 0


def _whole_document(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _first_document(text: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _wrapped_array(text: str, name: str) -> int | None:
    """Where the first list of objects under a key of an object begins; `None`: there is none."""
    place = 1
    while match := _KEY.match(text, place):
        key, place = match[1][1:-1], match.end()
        opens = text[place : place + 1] in ("{", "[")
        if _BY_NUMBER.match(text, place) or (opens and key in ("0", "guid", "id", "sentence", "label")):
            raise InvalidRows(
                f"{name}: JSON by columns or by row numbers, not a list of rows; {_ONE_ROW_EACH}"
            )
        if key == "data" and _LISTS.match(text, place):
            raise InvalidRows(f"{name}: the rows under {key!r} are lists, not objects; {_ONE_ROW_EACH}")
        if _ROWS.match(text, place):
            return place
        try:
            _, place = json.JSONDecoder().raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        if not (comma := _COMMA.match(text, place)):
            return None
        place = comma.end()
    return None


def read_json_lines(chunks: Iterable[bytes]) -> Iterator[Record]:
    """One JSON document per line. Blank lines are skipped."""
    for line in lines(chunks):
        if line.text is None:
            yield Record(line.number, b"", TOO_LONG)
        elif line.text.strip():
            yield Record(line.number, line.text)


_OUTSIDE: Final = re.compile(rb'["{}\[\],]')
_INSIDE: Final = re.compile(rb'["\\]')


def read_json_array(chunks: Iterator[bytes], begins: int = 0) -> Iterator[Record]:
    """The elements of one JSON array.

    Their ends are found by counting brackets outside strings. So an element that is not JSON does not hide
    the next one.

    Args:
        chunks: the text; its first piece holds the beginning of the array.
        begins: where the array begins; not 0: it is a value of an object.

    Raises:
        InputBroken: the file ends before the array does, or has more rows after it.
    """
    element = _Element()
    depth, quoted, escaped, line, elements = 0, False, False, 1, 0
    if begins:
        before = next(chunks)
        line += before.count(b"\n", 0, begins)
        chunks = chain([before[begins:]], chunks)
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
    if begins:
        _check_tail(b"".join(element.parts), line + element.leading)
    elif not element.blank:
        raise InputBroken("there is more after the end of the JSON array", line + element.leading)


def _check_tail(tail: bytes, line: int) -> None:
    """Check that an object ends after its array of rows, and has no other rows."""
    try:
        rest = json.loads(b'{"": 0' + tail)
    except (ValueError, RecursionError):
        raise InputBroken("the file does not end as the JSON object that it begins", line) from None
    for key, value in rest.items():
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            raise InputBroken(f"there are more rows under {key!r}; put each list in a file of its own", line)


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
