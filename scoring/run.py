"""From records to answers: rows in windows, windows through the lanes, finished windows to their sink, all in
the order of the input."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from engine.tuning import TunedEnsemble
from models.ensemble import EncodedExample
from models.example import Example
from scoring.engine import Answering, WindowRunner
from scoring.errors import InputBroken, Refused, Stopped
from scoring.inputs import Input
from scoring.journal import START_AGAIN, Finished, Sink, Tally
from scoring.outputs import Writer, json_lines
from scoring.progress import Progress
from scoring.records import Record
from scoring.rows import Reject, Row, read_row


class StrictViolation(Stopped):
    """A row cannot be scored, and --strict was given."""


@dataclass(slots=True)
class Window:
    """Rows that are sorted and finished together.

    Attributes:
        last: the number of its last row.
        broken: why the input cannot be read on after it.
    """

    last: int
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    broken: str | None = None

    def add(self, row: Row | Reject) -> None:
        self.last = row.number
        if isinstance(row, Row):
            self.rows.append(row)
        else:
            self.rejects.append(row)

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejects)


def begin(records: Iterator[Record]) -> Iterator[Record]:
    """The same records, the first one read already: a header that is none is refused before the models are
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


def windows(
    records: Iterable[Record], encode: Callable[[Example], EncodedExample], skip: int, size: int
) -> Iterator[Window]:
    """Windows of `size` rows, after the first `skip` rows, which an earlier run has finished.

    Raises:
        Refused: there are fewer rows than an earlier run has finished.
    """
    number, window, broken = 0, Window(skip), False
    try:
        for number, record in enumerate(records, start=1):
            if number <= skip:
                continue
            window.add(read_row(record, number, encode))
            if len(window) == size:
                yield window
                window = Window(number)
    except InputBroken as error:
        broken = True
        if number >= skip:
            window.broken = str(error)
            window.add(Reject(number + 1, error.line, None, None, str(error)))
    if number < skip - broken:
        raise Refused(f"the input has fewer rows than the run that was stopped has finished: {START_AGAIN}")
    if len(window):
        yield window


def score(
    source: Input,
    records: Iterable[Record],
    tuned: TunedEnsemble,
    writer: Writer,
    sink: Sink,
    progress: Progress,
    size: int,
    strict: bool,
) -> None:
    """Score what the sink has not got yet, and tell it when that is all.

    Raises:
        StrictViolation: a row is bad and `strict` is set.
        Stopped: the engine failed.
        Refused: as `windows`, and where a CSV has no header.
        OSError: as `Sink.commit`.
    """
    waiting: deque[tuple[Window, Answering]] = deque()
    with WindowRunner(tuned) as lanes:
        for window in windows(records, tuned.lanes.ensemble.encode, sink.tally.rows, size):
            if strict and window.rejects:
                raise StrictViolation(str(window.rejects[0]))
            waiting.append((window, lanes.submit([row.encoded for row in window.rows])))
            progress.expect(window.last, source.fraction())
            # the next window's batches wait already: no lane is idle while this one ends
            if len(waiting) > 1:
                _finish(*waiting.popleft(), writer, sink, progress)
        while waiting:
            _finish(*waiting.popleft(), writer, sink, progress)
    sink.commit(Finished(b"" if sink.tally.rows else writer.header(), b"", b""), sink.tally, complete=True)


def _finish(window: Window, answering: Answering, writer: Writer, sink: Sink, progress: Progress) -> None:
    for rows in answering.finished():
        progress.advance(rows)
    progress.advance(len(window.rejects))
    answers = list(zip(window.rows, answering.predictions(), strict=True))
    labelled = [
        [row.label_id, *prediction.probabilities.tolist()]
        for row, prediction in answers
        if row.label_id is not None
    ]
    before = sink.tally
    tally = Tally(
        window.last,
        before.scored + len(window.rows),
        before.rejected + len(window.rejects),
        before.labelled + len(labelled),
        before.strange_labels + sum(row.strange_label for row in window.rows),
        window.broken,
    )
    output = (b"" if before.rows else writer.header()) + writer.lines(answers)
    rejects = json_lines([reject.document() for reject in window.rejects])
    sink.commit(Finished(output, rejects, np.array(labelled, dtype=np.float64).tobytes()), tally)
