"""Parts of labelled rows, none of which shares a sentence with another.

KLUE-RE asks several relations of one sentence. Were its rows spread over parts, a model would have seen what
it is held out from.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.rows import InvalidRows, LabelledExample, sentence


class Fold(BaseModel):
    """One part of the rows, which is held out, and how many parts there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: int = Field(ge=2, description="parts")
    number: int = Field(ge=1, description="the part held out, from 1")

    @model_validator(mode="after")
    def _check_number(self) -> "Fold":
        if self.number > self.of:
            raise ValueError(f"number: one of the {self.of} parts is required, not {self.number}")
        return self

    def held_out(self, rows: Sequence[LabelledExample]) -> list[LabelledExample]:
        """The rows of this part, in their order.

        Raises:
            InvalidRows: there are fewer sentences than parts.
        """
        return [row for row, part in zip(rows, parts(rows, self.of), strict=True) if part == self.number]


def parts(rows: Sequence[LabelledExample], of: int) -> NDArray[np.int64]:
    """The part that each row belongs to, from 1 to `of`, shape (rows,); rows of one sentence belong to the
    same.

    The sentences are dealt out in the order of their SHA-256, so the parts have as many each, to one, and
    depend neither on a seed nor on the order of the rows. Labels are left to chance.

    Raises:
        InvalidRows: there are fewer sentences than parts.
    """
    sentences = [sentence(row) for row in rows]
    ordered = sorted(set(sentences), key=lambda text: hashlib.sha256(text.encode()).digest())
    if len(ordered) < of:
        raise InvalidRows(f"fold: {len(ordered)} different sentences cannot be split into {of} parts")
    part_of = {text: place % of + 1 for place, text in enumerate(ordered)}
    return np.array([part_of[text] for text in sentences], dtype=np.int64)


def apart(rows: Iterable[LabelledExample], others: Iterable[LabelledExample]) -> list[LabelledExample]:
    """The rows whose sentence none of the others has."""
    taken = {sentence(other) for other in others}
    return [row for row in rows if sentence(row) not in taken]
