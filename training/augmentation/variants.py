"""What every method of augmentation shares: how many new rows are made, out of which, and that none says the same twice."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.rows import LabelledExample

TRIES = 10  # to get a row that is not there yet; a method that has no further one to give then gives up this row


class Augmentation(BaseModel):
    """One method with its options: the `augmentation` block of a recipe. A subclass makes the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    copies: int | None = Field(None, ge=1, description="most new rows from one row; 1 by default, with balance as many as it takes")
    balance: int | None = Field(None, ge=1, description="only labels with fewer rows get new ones, up to this number of rows")

    def relation(self, relation: str) -> str | None:
        """The relation of a new row made from a row with `relation`; None where the method does not apply."""
        return relation

    def fits(self, example: Example, relation: str) -> bool:
        """Whether a row of this example may get the new `relation`."""
        return True

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        """A changed example, or None if nothing could be changed. All chance comes from `generator`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Variant:
    """A new row, the index of the row it was made from, and which of that row's new rows it is, from 1."""

    row: LabelledExample
    source: int
    number: int


def variants(rows: Sequence[LabelledExample], augmentation: Augmentation, seed: int) -> Iterator[Variant]:
    """The new rows that `augmentation` asks for: the same for the same rows, options and seed.

    No row comes twice, and none has a sentence and spans that are in `rows` already: there the annotators' label stands.
    """
    seen = {_pair(row.example) for row in rows}

    def make(source: int, relation: str, number: int) -> Variant | None:
        for attempt in range(TRIES):
            example = augmentation.vary(rows[source].example, np.random.default_rng((seed, source, number, attempt)))
            if example is not None and _pair(example) not in seen:
                seen.add(_pair(example))
                return Variant(LabelledExample(example, RELATION_IDS[relation]), source, number)
        return None

    targets = [_target(row, augmentation) for row in rows]
    if augmentation.balance is None:
        for source, relation in enumerate(targets):
            for number in range(1, (augmentation.copies or 1) + 1) if relation else ():
                if variant := make(source, relation, number):
                    yield variant
        return
    rows_of = Counter(row.label_id for row in rows)
    for label_id, relation in enumerate(RELATIONS):
        sources = np.array([source for source, target in enumerate(targets) if target == relation], dtype=np.int64)
        order = np.random.default_rng((seed, label_id)).permutation(sources)
        missing = augmentation.balance - rows_of[label_id]
        for number in count(1) if augmentation.copies is None else range(1, augmentation.copies + 1):
            # One new row from each before any gives a second one; a round without a new row is the last.
            before = missing
            for source in map(int, order):
                if missing <= 0:
                    break
                if variant := make(source, relation, number):
                    missing -= 1
                    yield variant
            if missing <= 0 or missing == before:
                break


def _target(row: LabelledExample, augmentation: Augmentation) -> str | None:
    relation = augmentation.relation(RELATIONS[row.label_id])
    return relation if relation is not None and augmentation.fits(row.example, relation) else None


def _pair(example: Example) -> tuple[str, int, int, int, int]:
    subject, object_ = example.subject_entity, example.object_entity
    return example.sentence, subject.start_idx, subject.end_idx, object_.start_idx, object_.end_idx
