"""Records cut into windows: rows that are sorted by length and finished together, in the order of the
input."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from models.files.errors import InputBroken
from models.files.records import Record
from models.files.rows import Reject
from scoring.errors import Refused
from scoring.journal import START_AGAIN
from scoring.rows import Encode, Row, encode_row


@dataclass(slots=True)
class Window:
    """Rows that are finished together.

    Attributes:
        last: the number of its last row.
        examples: of all its rows; a row with `entities` has one for each pair.
        broken: why the input cannot be read past this window.
    """

    last: int
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    examples: int = 0
    broken: str | None = None

    def add(self, row: Row | Reject) -> None:
        self.last = row.number
        if isinstance(row, Row):
            self.rows.append(row)
            self.examples += len(row.encoded)
        else:
            self.rejects.append(row)

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejects)


def begin(records: Iterator[Record]) -> Iterator[Record]:
    """The same records, with the first one read already: a wrong header is refused before the models are
    loaded."""
    try:
        first = [next(records)]
    except StopIteration:
        return iter(())
    except InputBroken as error:
        return _broken(error)
    return chain(first, records)


def _broken(error: InputBroken) -> Iterator[Record]:
    yield from ()
    raise error


def windows(records: Iterable[Record], encode: Encode, skip: int, size: int) -> Iterator[Window]:
    """Windows of `size` rows, or of fewer rows once they have `size` examples. The first `skip` rows, which
    an earlier run has finished, are left out.

    Raises:
        Refused: there are fewer rows than an earlier run has finished.
    """
    number, window, broken = 0, Window(skip), False
    try:
        for number, record in enumerate(records, start=1):
            if number <= skip:
                continue
            window.add(encode_row(record, number, encode))
            if max(len(window), window.examples) >= size:
                yield window
                window = Window(number)
    except InputBroken as error:
        broken = True
        if number >= skip:
            window.broken = str(error)
            window.add(Reject(number + 1, error.line, None, None, str(error)))
    if number < skip - broken:
        raise Refused(f"the input has fewer rows than the earlier run has finished: {START_AGAIN}")
    if len(window):
        yield window
