"""Shared by all methods: how many new rows are made, from which rows, and no row twice."""

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

TRIES = 10
"""Attempts to make a row that does not exist yet. After them the row gives no more variants."""

Vary = Callable[[Sequence[LabelledExample], Sequence[np.random.Generator]], list[Example | None]]
"""Changes several examples at once, each with its own generator. None: the example could not be changed."""


class Augmentation(BaseModel):
    """A method with its options: the `augmentation` block of a recipe. Each method is a subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    batch: ClassVar[int] = 1  # rows that are changed at once
    # no word changes: the teachers' probabilities for a row also hold for the new rows made from it
    keeps_words: ClassVar[bool] = False

    method: str
    copies: int | None = Field(
        None, ge=1, description="Most new rows from one row. Default: 1; with `balance`: no limit."
    )
    balance: int | None = Field(
        None, ge=1, description="Only labels with fewer rows than this get new rows, up to this number."
    )

    def relation(self, relation: str) -> str | None:
        """The relation of a row made from a row with `relation`. None: the method does not apply."""
        return relation

    def fits(self, example: Example, relation: str) -> bool:
        """Whether a row of this example can get the new `relation`."""
        return True

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        """A changed example, or None if it could not be changed. All random numbers come from `generator`."""
        raise NotImplementedError

    def start(self) -> Vary:
        """The function that changes rows: `vary` on each row. A method that needs several rows or their
        labels overrides it."""
        return lambda rows, generators: [
            self.vary(row.example, generator) for row, generator in zip(rows, generators, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Variant:
    """A new row.

    Attributes:
        source: index of the row that it was made from.
        number: its number among the new rows of that row, from 1.
    """

    row: LabelledExample
    source: int
    number: int


def variants(rows: Sequence[LabelledExample], augmentation: Augmentation, seed: int) -> Iterator[Variant]:
    """The new rows of an augmentation: the same for the same rows, options and seed.

    No row is made twice. No new row has the sentence and spans of one of `rows`, whose label comes from
    annotators.
    """
    seen = {_pair(row.example) for row in rows}
    targets = [_target(row, augmentation) for row in rows]
    vary = augmentation.start()

    def make(wanted: Sequence[tuple[int, int]]) -> list[Variant]:
        """The variants for these (source, number), without those that could not be made."""
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
            # Each row gives one new row before any row gives a second one. A round without a new row ends it.
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
