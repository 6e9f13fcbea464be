"""Turns a record into an encoded example, or into a reject with the reason."""

from collections.abc import Callable
from dataclasses import dataclass

from models.ensemble import EncodedExample
from models.example import Example, InvalidExample
from models.files.records import Record
from models.files.rows import Label, Name, Reject, read_row


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be scored.

    Attributes:
        number: its place among the input's rows, counted from 1.
    """

    number: int
    guid: Name | None
    id: Name | None
    label: Label
    encoded: EncodedExample


def encode_row(record: Record, number: int, encode: Callable[[Example], EncodedExample]) -> Row | Reject:
    """Parse, check and encode one record. Any fault makes it a `Reject`."""
    row = read_row(record, number)
    if isinstance(row, Reject):
        return row
    try:
        return Row(number, row.guid, row.id, row.label, encode(row.example))
    except InvalidExample as error:
        return Reject(number, record.line, row.guid, row.id, str(error))
