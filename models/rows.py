"""Labelled rows from a JSONL file: what training learns from and what a bundle is proven on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.example import Example, InvalidExample
from models.labels import RELATION_IDS


class InvalidRows(ValueError):
    """A file of labelled rows that cannot be used; the message names file, line and fault."""


@dataclass(frozen=True, slots=True)
class LabelledExample:
    example: Example
    label_id: int


def read_labelled(path: Path) -> list[LabelledExample]:
    """Read a JSONL file of KLUE-RE rows with labels.

    Raises:
        InvalidRows: the file is missing or empty, or a row is not a valid example with one of the 30 labels.
    """
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    rows.append(_labelled(json.loads(line)))
                except (ValueError, RecursionError) as error:
                    raise InvalidRows(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise InvalidRows(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRows(f"{path}: {error}") from None
    if not rows:
        raise InvalidRows(f"{path}: no rows")
    return rows


def label_ids(rows: Sequence[LabelledExample]) -> NDArray[np.int64]:
    """The rows' labels, shape (rows,)."""
    return np.array([row.label_id for row in rows], dtype=np.int64)


def _labelled(row: object) -> LabelledExample:
    if not isinstance(row, dict):
        raise ValueError("a row is a JSON object")
    label = row.get("label")
    if not isinstance(label, str) or label not in RELATION_IDS:
        raise ValueError(f"label: one of the 30 relations is required, not {label!r}")
    try:
        return LabelledExample(Example.from_row(row), RELATION_IDS[label])
    except InvalidExample as error:
        raise ValueError(str(error)) from None
