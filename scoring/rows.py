"""Turns a record into an encoded example, or into a reject with the reason."""

import ast
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from models.ensemble import EncodedExample
from models.example import Example, InvalidExample
from models.labels import RELATION_IDS, RELATIONS
from scoring.records import Record

MAX_CELL_CHARACTERS: Final = 10_000
"""Longest entity written as a Python literal. The parser has limits of its own, which only longer texts
reach."""
MAX_NAME_CHARACTERS: Final = 1_000
NAME_REQUIRED: Final = (
    f"a string of Unicode text or an integer is required, of at most {MAX_NAME_CHARACTERS} characters"
)

Name = str | int
"""A row's guid, or its id in the competition."""

UNLABELLED: Final = (None, "", 100, "100")
"""Values that mean 'no label'; the competition's test file has 100."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be scored.

    Attributes:
        number: its place among the input's rows, counted from 1.
        label_id: its true relation, `None` if it has none.
        strange_label: whether it has a label that is none of the 30.
    """

    number: int
    guid: Name | None
    id: Name | None
    label_id: int | None
    strange_label: bool
    encoded: EncodedExample


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be scored, and the reason."""

    number: int
    line: int | None
    guid: Name | None
    id: Name | None
    reason: str

    def document(self) -> dict[str, object]:
        """A line of the file of rejects, without unknown fields."""
        names = {"line": self.line, "guid": self.guid, "id": self.id}
        return {
            "row": self.number,
            **{key: value for key, value in names.items() if value is not None},
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return f"row {self.number}" + (f", line {self.line}" if self.line else "") + f": {self.reason}"


def read_row(record: Record, number: int, encode: Callable[[Example], EncodedExample]) -> Row | Reject:
    """Parse, check and encode one record. Any fault makes it a `Reject`."""
    guid = id_ = None
    try:
        content: Any = record.content
        if isinstance(content, bytes) and not record.fault:
            content = _parse_json(content)
        if isinstance(content, Mapping):
            guid, id_ = (value if _is_name(value := content.get(key)) else None for key in ("guid", "id"))
        if record.fault:
            raise ValueError(record.fault)
        if not isinstance(content, Mapping):
            raise ValueError("a row is a JSON object")
        for key in ("guid", "id"):
            if not (_is_name(content.get(key)) or content.get(key) in (None, "")):
                raise ValueError(f"{key}: {NAME_REQUIRED}")
        entities = {
            key: _literal(content[key], key)
            for key in ("subject_entity", "object_entity")
            if isinstance(content.get(key), str)
        }
        encoded = encode(Example.from_row({**content, **entities}))
    except (ValueError, InvalidExample) as error:
        return Reject(number, record.line, guid, id_, str(error))
    label_id, strange_label = _label(content.get("label"))
    return Row(number, guid, id_, label_id, strange_label, encoded)


def _parse_json(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start + 1} of the row") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1} of the row") from None
    except RecursionError:
        raise ValueError("not readable JSON: it is nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is not a JSON number")


def _literal(cell: str, key: str) -> Any:
    """An entity written as text: as JSON, or as a Python literal as in the competition's files. No code in
    it is run."""
    if len(cell) > MAX_CELL_CHARACTERS:
        raise ValueError(f"{key}: longer than {MAX_CELL_CHARACTERS} characters; shorten it")
    try:
        return json.loads(cell, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that begins no escape
            return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        shown = f"{cell[:40]!r}{'…' * (len(cell) > 40)}"
        raise ValueError(f"{key}: neither a Python literal nor JSON: {shown}") from None


def _is_name(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 10**18
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _label(value: object) -> tuple[int | None, bool]:
    """The label's id, and whether the label is strange. KLUE's Parquet files have labels by number, in the
    official order."""
    if isinstance(value, str) and value in RELATION_IDS:
        return RELATION_IDS[value], False
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(RELATIONS):
        return value, False
    return None, not (value is None or value in UNLABELLED)
