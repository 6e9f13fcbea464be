"""What a run leaves in its folder, so that it can be compared and returned to (`python -m training.compare`).

recipe.yaml      the recipe as it ran, overrides and defaults filled in
run.json         seed, fingerprints of data and encoder, versions, commit, when it began
epochs.jsonl     the validation rows' loss and metrics, a line an epoch
metrics.json     those of the end
predictions.npz  the validation rows' labels and probabilities
curves.svg, confusion.svg
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.metrics import auprc, micro_f1
from training.plots import draw_confusion, draw_curves
from training.recipe import Recipe

PACKAGES: Final = ("torch", "transformers", "tokenizers", "accelerate", "numpy")
METRICS: Final = ("loss", "micro_f1", "auprc")
PREDICTIONS: Final = "predictions.npz"
FINISHED: Final = "metrics.json"
"""Written last: a member that has it is finished."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A model's answers to labelled rows.

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
        """KLUE's two, times 100."""
        return {"micro_f1": micro_f1(self.label_ids, self.predicted_ids), "auprc": auprc(self.label_ids, self.probabilities)}

    def save(self, path: Path) -> None:
        np.savez_compressed(path, label_ids=self.label_ids, probabilities=self.probabilities.astype(np.float32))

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Raises OSError, ValueError, KeyError or zipfile.BadZipFile where the file is not one that `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["label_ids"], arrays["probabilities"])


class Record(TrainerCallback):
    """Asks for the evaluation at the end of a run, and writes `epochs.jsonl` after each one."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        # Whole each time: a resumed run repeats the epoch that the last checkpoint lies in.
        lines = [
            {"epoch": entry["epoch"], "step": entry["step"], **{name: entry[f"eval_{name}"] for name in METRICS}}
            for entry in state.log_history
            if "eval_micro_f1" in entry
        ]
        _write(self.recipe.output / "epochs.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def begin(recipe: Recipe, rows: int) -> None:
    """Write `recipe.yaml` and `run.json`.

    Args:
        rows: trained on, augmented ones included.
    """
    recipe.output.mkdir(parents=True, exist_ok=True)
    recipe.write(recipe.output / "recipe.yaml")
    run = {
        "began": datetime.now(UTC).isoformat(timespec="microseconds"),
        "seed": recipe.seed,
        "rows": rows,
        "data": {name: fingerprint(path) for name, path in (("train", recipe.train), ("validation", recipe.validation))},
        "encoder": encoder_fingerprint(recipe.encoder),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
        },
        "code": code(),
    }
    _write(recipe.output / "run.json", json.dumps(run, indent=2) + "\n")


def finish(recipe: Recipe, predictions: Predictions, history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Write what is known at the end; returns the metrics.

    Args:
        predictions: on the validation rows.
        history: the Trainer's log.
    """
    predictions.save(recipe.output / PREDICTIONS)
    draw_curves(history, recipe.output / "curves.svg")
    draw_confusion(predictions.label_ids, predictions.predicted_ids, recipe.output / "confusion.svg")
    metrics = predictions.metrics
    _write(recipe.output / FINISHED, json.dumps({**metrics, "rows": len(predictions.label_ids)}, indent=2) + "\n")
    return metrics


def fingerprint(path: Path) -> dict[str, Any]:
    """A data file's SHA-256 and how many lines it has."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return {"sha256": digest, "rows": sum(1 for line in file if line.strip())}


def encoder_fingerprint(name: str) -> str | None:
    """SHA-256 over the weights in a checkpoint folder, or the commit that a name on the hub stood for."""
    if not Path(name).is_dir():
        return AutoConfig.from_pretrained(name)._commit_hash
    digest = hashlib.sha256()
    for path in sorted([*Path(name).glob("*.safetensors"), *Path(name).glob("*.bin")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def code() -> dict[str, Any] | None:
    """The commit of this repository and whether files differ from it; None where git or the repository is not there."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
