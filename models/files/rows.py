"""What a row is: one record of a file becomes an example with its names and its label, or a reject.

NaN means that a value is missing, and a type can be missing as pandas prints it. An index, an id or a label
can be a whole number that is written as a float.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from models.example import Example, InvalidExample
from models.files.cells import parse_cell
from models.files.records import Record
from models.labels import RELATION_IDS, RELATIONS

MAX_NAME_CHARACTERS: Final = 1_000
NAME_REQUIRED: Final = (
    f"a string of Unicode text or an integer is required, of at most {MAX_NAME_CHARACTERS} characters"
)
ENTITY_KEYS: Final = ("subject_entity", "object_entity")
MISSING_TYPES: Final = ("", "nan", "NaN", "None", "null", "<NA>")
"""How pandas and Spark write a type that is missing, once it is a string."""
NO_LABEL: Final = 100
"""The competition's test file has this label in every row."""

T = TypeVar("T")

Name = str | int
"""A row's guid, or its id in the competition."""


@dataclass(frozen=True, slots=True)
class Label:
    """A row's label.

    Attributes:
        id: of the relation; `None`: the row has no label, or a strange one.
        number: whether it was given by number, in the order of `RELATIONS`.
        strange: the label as given, if it is none of the 30.
    """

    id: int | None = None
    number: bool = False
    strange: object = None


_NAMED: Final = {relation: Label(index) for relation, index in RELATION_IDS.items()}


@dataclass(frozen=True, slots=True)
class FileRow(Generic[T]):
    """A row that is a valid example, or something else that was read from its fields.

    Attributes:
        number: its place among the file's rows, counted from 1.
        record: as it is in the file.
        fields: all its fields, the two entities as dictionaries.
    """

    number: int
    record: Record
    guid: Name | None
    id: Name | None
    label: Label
    example: T
    fields: Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"line {self.record.line}" if self.record.line else f"row {self.number}"

    def line_of_json(self) -> bytes:
        """The row as a line of JSON: as it is in the file, if it is one there."""
        text = self.record.content
        if isinstance(text, bytes) and b"\n" not in text:
            return text + b"\n"
        return json_line(self.fields)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be used, and the reason."""

    number: int
    line: int | None
    guid: Name | None
    id: Name | None
    reason: str

    def document(self) -> dict[str, object]:
        """A line of scoring's file of rejects, without unknown fields."""
        names = {"line": self.line, "guid": self.guid, "id": self.id}
        return {
            "row": self.number,
            **{key: value for key, value in names.items() if value is not None},
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return f"row {self.number}" + (f", line {self.line}" if self.line else "") + f": {self.reason}"


def read_row(record: Record, number: int) -> FileRow[Example] | Reject:
    """Parse and check one record. Any fault makes it a `Reject`."""
    return read_row_as(record, number, Example.from_row)


def read_row_as(record: Record, number: int, check: Callable[[dict[str, Any]], T]) -> FileRow[T] | Reject:
    """As `read_row`, with another reader of the fields, which raises InvalidExample."""
    guid = id_ = None
    try:
        content: Any = record.content
        if isinstance(content, bytes) and not record.fault:
            content = _parse_json(content)
        faults = [record.fault] if record.fault else []
        if isinstance(content, Mapping):
            guid, id_ = (_name(content, key, faults) for key in ("guid", "id"))
        if faults or not isinstance(content, Mapping):
            raise ValueError(*faults[:1] or ["a row is a JSON object"])
        texts = {key: value for key in ENTITY_KEYS if isinstance(value := content.get(key), str)}
        fields = {**content, **{key: parse_cell(text, key) for key, text in texts.items()}}
        try:
            example = check(fields)
        except InvalidExample:
            present = {key: _present(fields.get(key)) for key in ENTITY_KEYS}
            fields |= {key: entity for key, entity in present.items() if entity is not None}
            example = check(fields)
    except ValueError as error:
        return Reject(number, record.line, guid, id_, str(error))
    return FileRow(number, record, guid, id_, read_label(fields.get("label")), example, fields)


def json_line(fields: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON. A lone surrogate in an unknown field is written as the escape that it was read
    from."""
    return (json.dumps(fields, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def read_label(value: object) -> Label:
    """A label by name, or by number in the official order, also as text: a cell of CSV holds nothing else."""
    if isinstance(value, str):
        if value in _NAMED:
            return _NAMED[value]
        number = _number(value)
    else:
        number = _whole(value)
    if number is None or number == "" or (isinstance(number, int) and number == NO_LABEL):
        return Label()
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(RELATIONS):
        return Label(number, number=True)
    return Label(strange=value)


def _number(text: str) -> object:
    """The whole number that a text writes, as `29` or `29.0`; otherwise the text."""
    digits = text.strip().removesuffix(".0")
    if digits.isascii() and digits.isdigit() and len(digits) <= 3:
        return int(digits)
    return None if text.strip() in MISSING_TYPES else text


def _parse_json(text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in the file's encoding at byte {error.start + 1} of the row") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1} of the row") from None
    except RecursionError:
        raise ValueError("not readable JSON: it is nested too deeply") from None


def _present(entity: Any) -> dict[str, Any] | None:
    """An entity with None for values that are missing; None: it is not an object."""
    if not isinstance(entity, Mapping):
        return None
    return {
        key: None if value != value or (key == "type" and value in MISSING_TYPES) else value
        for key, value in entity.items()
    }


def _name(content: Mapping[str, Any], key: str, faults: list[str]) -> Name | None:
    value = content.get(key)
    if type(value) is float:
        value = _whole(value)
    if _is_name(value):
        return value
    if value is not None and value != "":
        faults.append(f"{key}: {NAME_REQUIRED}")
    return None


def _whole(value: Any) -> Any:
    """Takes 3.0 as 3, and NaN as missing."""
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    return value


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
