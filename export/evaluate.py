"""How well a whole ensemble does on labelled rows."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bundle import Quality
from models.ensemble import Ensemble
from models.metrics import auprc, micro_f1
from models.rows import LabelledExample, label_ids


def evaluate(ensemble: Ensemble, rows: Sequence[LabelledExample], path: Path) -> Quality:
    """Micro-F1 and AUPRC over rows that were read from `path`."""
    predictions = ensemble.predict([row.example for row in rows])
    labels = label_ids(rows)
    return Quality(
        rows=len(rows),
        data=describe(path),
        micro_f1=micro_f1(labels, np.array([prediction.label_id for prediction in predictions])),
        auprc=auprc(labels, np.stack([prediction.probabilities for prediction in predictions])),
    )


def describe(path: Path) -> str:
    """A file of rows by its name and content."""
    return f"{path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
