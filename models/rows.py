"""Reads rows of KLUE-RE from a JSONL file, with labels or without."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.example import Example
from models.labels import RELATION_IDS

Row = TypeVar("Row")


class InvalidRows(ValueError):
    """A file of rows that cannot be used. The message names file, line and fault."""


@dataclass(frozen=True, slots=True)
class LabelledExample:
    example: Example
    label_id: int


def read_labelled(path: Path) -> list[LabelledExample]:
    """Read a JSONL file of KLUE-RE rows with labels.

    Raises:
        InvalidRows: the file is missing or empty, or a row is not a valid example with one of the 30 labels.
    """
    return _read(path, _labelled)


def read_examples(path: Path) -> list[Example]:
    """Read a JSONL file of KLUE-RE rows and ignore their labels.

    Raises:
        InvalidRows: the file is missing or empty, or a row is not a valid example.
    """
    return _read(path, Example.from_row)


def label_ids(rows: Sequence[LabelledExample]) -> NDArray[np.int64]:
    """The rows' labels, shape (rows,)."""
    return np.array([row.label_id for row in rows], dtype=np.int64)


def sentence(row: LabelledExample) -> str:
    """A row's sentence without space around it."""
    return row.example.sentence.strip()


def sentence_halves(rows: Sequence[LabelledExample]) -> NDArray[np.bool_]:
    """The half of each row, for cross-fitting: bool of shape (rows,). Rows of one sentence are in one half.

    Raises:
        InvalidRows: one half is empty.
    """
    halves = np.array(
        [hashlib.sha256(sentence(row).encode("utf-8", "surrogatepass")).digest()[0] % 2 == 1 for row in rows]
    )
    if halves.all() or not halves.any():
        raise InvalidRows("too few sentences: rows for two halves are required")
    return halves


def _read(path: Path, parse: Callable[[dict[str, Any]], Row]) -> list[Row]:
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("a row is a JSON object")
                    rows.append(parse(row))
                except (ValueError, RecursionError) as error:
                    raise InvalidRows(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise InvalidRows(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRows(f"{path}: {error}") from None
    if not rows:
        raise InvalidRows(f"{path}: no rows")
    return rows


def _labelled(row: dict[str, Any]) -> LabelledExample:
    label = row.get("label")
    if not isinstance(label, str) or label not in RELATION_IDS:
        raise ValueError(f"label: one of the 30 relations is required, not {label!r}")
    return LabelledExample(Example.from_row(row), RELATION_IDS[label])
