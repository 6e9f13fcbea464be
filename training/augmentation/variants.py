"""What every method of augmentation shares: how many new rows are made, out of which, and that none says the
same twice."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.rows import LabelledExample

# to get a row that is not there yet; a method that has no further one to give then gives up this row
TRIES = 10

Vary = Callable[[Sequence[LabelledExample], Sequence[np.random.Generator]], list[Example | None]]
"""Changes examples, several at once: each row's own generator decides what becomes of it, and None says that
nothing could be changed."""


class Augmentation(BaseModel):
    """One method with its options: the `augmentation` block of a recipe. A subclass makes the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    batch: ClassVar[int] = 1  # rows that are changed at a time

    method: str
    copies: int | None = Field(
        None, ge=1, description="most new rows from one row; 1 by default, with balance as many as it takes"
    )
    balance: int | None = Field(
        None, ge=1, description="only labels with fewer rows get new ones, up to this number of rows"
    )

    def relation(self, relation: str) -> str | None:
        """The relation of a new row made from a row with `relation`; None where the method does not apply."""
        return relation

    def fits(self, example: Example, relation: str) -> bool:
        """Whether a row of this example may get the new `relation`."""
        return True

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        """A changed example, or None if nothing could be changed. All chance comes from `generator`."""
        raise NotImplementedError

    def start(self) -> Vary:
        """What changes the rows: `vary`, one by one. A method that works on many rows, or asks for their
        labels, brings its own."""
        return lambda rows, generators: [
            self.vary(row.example, generator) for row, generator in zip(rows, generators, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Variant:
    """A new row, the index of the row it was made from, and which of that row's new rows it is, from 1."""

    row: LabelledExample
    source: int
    number: int


def variants(rows: Sequence[LabelledExample], augmentation: Augmentation, seed: int) -> Iterator[Variant]:
    """The new rows that `augmentation` asks for: the same for the same rows, options and seed.

    No row comes twice, and none has a sentence and spans that are in `rows` already: there the annotators'
    label stands.
    """
    seen = {_pair(row.example) for row in rows}
    targets = [_target(row, augmentation) for row in rows]
    vary = augmentation.start()

    def make(wanted: Sequence[tuple[int, int]]) -> list[Variant]:
        """The variants of these (source, number), as far as there are any."""
        made: dict[tuple[int, int], Variant] = {}
        for attempt in range(TRIES):
            left = [key for key in wanted if key not in made]
            if not left:
                break
            generators = [np.random.default_rng((seed, *key, attempt)) for key in left]
            for (source, number), example in zip(
                left, vary([rows[source] for source, _ in left], generators), strict=True
            ):
                if example is not None and _pair(example) not in seen:
                    seen.add(_pair(example))
                    made[source, number] = Variant(
                        LabelledExample(example, RELATION_IDS[targets[source]]), source, number
                    )
        return [made[key] for key in wanted if key in made]

    if augmentation.balance is None:
        numbers = range(1, (augmentation.copies or 1) + 1)
        wanted = [
            (source, number) for source, relation in enumerate(targets) if relation for number in numbers
        ]
        for low in range(0, len(wanted), augmentation.batch):
            yield from make(wanted[low : low + augmentation.batch])
        return
    rows_of = Counter(row.label_id for row in rows)
    for label_id, relation in enumerate(RELATIONS):
        sources = np.array(
            [source for source, target in enumerate(targets) if target == relation], dtype=np.int64
        )
        order = np.random.default_rng((seed, label_id)).permutation(sources)
        missing = augmentation.balance - rows_of[label_id]
        for number in count(1) if augmentation.copies is None else range(1, augmentation.copies + 1):
            # One new row from each before any gives a second one; a round without a new row is the last.
            before, waiting = missing, iter([(int(source), number) for source in order])
            while missing > 0 and (wanted := list(islice(waiting, min(augmentation.batch, missing)))):
                made = make(wanted)
                missing -= len(made)
                yield from made
            if missing <= 0 or missing == before:
                break


def _target(row: LabelledExample, augmentation: Augmentation) -> str | None:
    relation = augmentation.relation(RELATIONS[row.label_id])
    return relation if relation is not None and augmentation.fits(row.example, relation) else None


def _pair(example: Example) -> tuple[str, int, int, int, int]:
    subject, object_ = example.subject_entity, example.object_entity
    return example.sentence, subject.start_idx, subject.end_idx, object_.start_idx, object_.end_idx
