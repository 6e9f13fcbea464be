"""Labelled rows, and the quality of a whole ensemble on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from engine.lanes import Lanes
from models.bundle import Quality
from models.metrics import klue_metrics
from models.rows import InvalidRows, LabelledExample, label_ids, read_labelled, sha256

SUM: Final = ", SHA-256 "


def read_rows(path: Path) -> list[LabelledExample]:
    """As `read_labelled`, but not from a pipe: `describe` reads it again, and a pipe would then be empty.

    Raises:
        InvalidRows: it is a pipe, or as `read_labelled`.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidRows(f"{path}: a regular file is required")
    return read_labelled(path)


def evaluate(lanes: Lanes, rows: Sequence[LabelledExample], path: Path) -> Quality:
    """Micro-F1 and AUPRC over rows from the file `path`."""
    predictions = lanes.predict([row.example for row in rows])
    return Quality(
        rows=len(rows),
        data=describe(path),
        **klue_metrics(label_ids(rows), np.stack([prediction.probabilities for prediction in predictions])),
    )


def describe(path: Path) -> str:
    """The name and the SHA-256 of a file of rows."""
    return f"{path.name}{SUM}{sha256(path)}"


def same_rows(one: str, other: str) -> bool:
    """Whether two descriptions are of the same rows, under any file name."""
    return one.rpartition(SUM)[2] == other.rpartition(SUM)[2]
