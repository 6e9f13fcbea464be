"""Parts of labelled rows. No two parts share a sentence.

KLUE-RE has several rows for one sentence. If they were in different parts, a model would have seen the
sentences that are held out from it.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.rows import InvalidRows, LabelledExample, labelled, read_rows, sentence
from training.data.files import whole
from training.errors import InvalidArguments

RULE: Final = "stratified by label"
"""How sentences are dealt out. A run with another rule cannot go on, because its parts are others. Change it
together with `parts`."""


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
            InvalidRows: as `parts`.
        """
        return [row for row, part in zip(rows, parts(rows, self.of), strict=True) if part == self.number]


def parts(rows: Sequence[LabelledExample], of: int) -> NDArray[np.int64]:
    """The part of each row, from 1 to `of`, shape (rows,).

    Rows of one sentence are in the same part, and each part has about the same share of every label
    (scikit-learn's StratifiedGroupKFold). The parts depend neither on a seed nor on the order of the rows.

    Raises:
        InvalidRows: the rows have fewer sentences than parts, or no label has as many rows as parts.
    """
    return np.array(
        _parts(tuple(map(sentence, rows)), tuple(row.label_id for row in rows), of), dtype=np.int64
    )


@lru_cache(maxsize=4)  # 32,000 rows take seconds, and a run needs their parts several times
def _parts(sentences: tuple[str, ...], label_ids: tuple[int, ...], of: int) -> tuple[int, ...]:
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    ordered = sorted(
        set(sentences), key=lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    )
    if len(ordered) < of:
        raise InvalidRows(
            f"fold: {len(ordered)} different sentences cannot be split into {of} parts; use fewer parts"
        )
    if max(Counter(label_ids).values()) < of:
        raise InvalidRows(f"fold: no label has {of} rows, one for each part; use fewer parts")
    # Equal groups are dealt out in the order of their numbers, so these must not follow the alphabet.
    number = {text: place for place, text in enumerate(ordered)}
    groups = [number[text] for text in sentences]
    part_of = [0] * len(groups)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for part, (_, held_out) in enumerate(
            StratifiedGroupKFold(of).split(groups, label_ids, groups), start=1
        ):
            for row in held_out:
                part_of[row] = part
    return tuple(part_of)


def apart(rows: Iterable[LabelledExample], others: Iterable[LabelledExample]) -> list[LabelledExample]:
    """The rows without those whose sentence one of the others has."""
    taken = {sentence(other) for other in others}
    return [row for row in rows if sentence(row) not in taken]


def split_file(source: Path, folder: Path, of: int) -> dict[str, Any]:
    """Write train.jsonl and validation.jsonl into a folder; returns their numbers of rows.

    Args:
        of: number of parts of the sentences; the first part is for validation.

    Raises:
        InvalidArguments: the folder has one of the two files already.
        InvalidRows: `source` cannot be used, or it has fewer sentences than parts.
        OSError: a file cannot be written.
    """
    files = {name: folder / f"{name}.jsonl" for name in ("train", "validation")}
    for path in files.values():
        if path.exists():
            raise InvalidArguments(f"FOLDER: {path} exists already; name another folder")
    rows = list(read_rows(source))
    held_out = parts([labelled(row, source) for row in rows], of) == 1
    counts = {}
    for name, path in files.items():
        chosen = [row for row, out in zip(rows, held_out, strict=True) if out == (name == "validation")]
        with whole(path) as file:
            for row in chosen:
                file.write(row.line_of_json())
        counts[name] = len(chosen)
    return {"folder": str(folder), **counts}
