"""A model's predictions for labelled rows, in memory and as a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.metrics import klue_metrics
from training.data.files import whole


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A model's predictions for labelled rows.

    Attributes:
        label_ids: true labels, int64 of shape (rows,).
        probabilities: shape (rows, 30).
    """

    label_ids: NDArray[np.int64]
    probabilities: NDArray[np.floating]

    @property
    def predicted_ids(self) -> NDArray[np.int64]:
        return self.probabilities.argmax(axis=1)

    @property
    def metrics(self) -> dict[str, float]:
        return klue_metrics(self.label_ids, self.probabilities)

    def part(self, rows: NDArray[np.bool_]) -> "Predictions":
        """The predictions for some of the rows; `rows` has shape (rows,)."""
        return Predictions(self.label_ids[rows], self.probabilities[rows])

    def save(self, path: Path) -> None:
        """Write an .npz file; probabilities become float32."""
        with whole(path) as file:
            np.savez_compressed(
                file, label_ids=self.label_ids, probabilities=self.probabilities.astype(np.float32)
            )

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read a file that `save` wrote.

        Raises:
            OSError, ValueError, KeyError, zipfile.BadZipFile: the file is missing or of another kind.
        """
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["label_ids"], arrays["probabilities"])
