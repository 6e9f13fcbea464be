"""Turns a record into an encoded example, or into a reject with the reason."""

from collections.abc import Callable
from dataclasses import dataclass

from models.encoding import EncodedExample
from models.example import Example, InvalidExample
from models.files.records import Record
from models.files.rows import Label, Name, Reject, read_row_as
from models.pairs import Pairs, example_or_pairs

Encode = Callable[[Example | Pairs], list[EncodedExample]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be scored.

    Attributes:
        number: its place among the input's rows, counted from 1.
        label: none for a row with `entities`: a label belongs to one pair.
        encoded: the example, or each pair of a row with `entities`.
        pairs: of a row with `entities`.
        example: of a labelled row, for the report.
    """

    number: int
    guid: Name | None
    id: Name | None
    label: Label
    encoded: list[EncodedExample]
    pairs: Pairs | None = None
    example: Example | None = None


def encode_row(record: Record, number: int, encode: Encode) -> Row | Reject:
    """Parse, check and encode one record. Any fault makes it a `Reject`."""
    # In a table `entities` is a column like any unknown one, which is ignored.
    check = example_or_pairs if isinstance(record.content, bytes) else Example.from_row
    row = read_row_as(record, number, check)
    if isinstance(row, Reject):
        return row
    try:
        encoded = encode(row.example)
    except InvalidExample as error:
        return Reject(number, record.line, row.guid, row.id, str(error))
    if isinstance(row.example, Pairs):
        return Row(number, row.guid, row.id, Label(), encoded, row.example)
    example = row.example if row.label.id is not None else None
    return Row(number, row.guid, row.id, row.label, encoded, example=example)
