"""Parts of labelled rows. No two parts share a sentence.

KLUE-RE has several rows for one sentence. If they were in different parts, a model would have seen the
sentences that are held out from it.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.rows import InvalidRows, LabelledExample, sentence


class Fold(BaseModel):
    """The part of the rows that is held out, and the number of parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: int = Field(ge=2, description="Number of parts.")
    number: int = Field(ge=1, description="The part that is held out, from 1.")

    @model_validator(mode="after")
    def _check_number(self) -> "Fold":
        if self.number > self.of:
            raise ValueError(f"number: one of the {self.of} parts is required, not {self.number}")
        return self

    def held_out(self, rows: Sequence[LabelledExample]) -> list[LabelledExample]:
        """The rows of this part, in the order of the file.

        Raises:
            InvalidRows: the rows have fewer sentences than parts.
        """
        return [row for row, part in zip(rows, parts(rows, self.of), strict=True) if part == self.number]


def parts(rows: Sequence[LabelledExample], of: int) -> NDArray[np.int64]:
    """The part of each row, from 1 to `of`, shape (rows,). Rows of one sentence are in the same part.

    The sentences are dealt out in the order of their SHA-256. So the parts differ by at most one sentence in
    size, and depend neither on a seed nor on the order of the rows. Labels are not balanced.

    Raises:
        InvalidRows: the rows have fewer sentences than parts.
    """
    sentences = [sentence(row) for row in rows]
    ordered = sorted(set(sentences), key=lambda text: hashlib.sha256(text.encode()).digest())
    if len(ordered) < of:
        raise InvalidRows(
            f"fold: {len(ordered)} different sentences cannot be split into {of} parts; use fewer parts"
        )
    part_of = {text: place % of + 1 for place, text in enumerate(ordered)}
    return np.array([part_of[text] for text in sentences], dtype=np.int64)


def apart(rows: Iterable[LabelledExample], others: Iterable[LabelledExample]) -> list[LabelledExample]:
    """The rows without those whose sentence one of the others has."""
    taken = {sentence(other) for other in others}
    return [row for row in rows if sentence(row) not in taken]
