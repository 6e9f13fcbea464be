"""What a run leaves in its folder, so that it can be compared and returned to (`python -m training.compare`).

recipe.yaml      the recipe as it ran, overrides, defaults and what the machine decided filled in
run.json         seed, fingerprints of data, encoder and teachers, versions, commit, when it began
epochs.jsonl     the validation rows' loss and metrics, a line an epoch
metrics.json     those of the end
predictions.npz  the validation rows' labels and probabilities
held_out.npz     the same of the rows that the recipe's fold holds out
curves.svg, confusion.svg

An encoder that goes on pretraining, and the model of contextual augmentation, leave the first two and
metrics.json. A folder with such a
record takes no other run: `claim`.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from transformers import AutoConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from models.metrics import auprc, micro_f1
from training.augmentation.contextual import Contextual
from training.data.dataset import ORDER
from training.data.files import whole, write
from training.run.plots import draw_confusion, draw_curves
from training.run.precision import bf16_pays
from training.run.recipe import ContextualRecipe, InvalidRecipe, PretrainingRecipe, Recipe

AnyRecipe = TypeVar("AnyRecipe", Recipe, PretrainingRecipe, ContextualRecipe)

UNDECISIVE: Final = {"output", "train", "validation", "evaluate", "report_to", "save_steps", "search"}
"""Fields that do not decide what is trained. Of the rows it is what the files hold that counts, not where
they lie."""
PACKAGES: Final = ("torch", "transformers", "tokenizers", "accelerate", "numpy")
OPTIONAL_PACKAGES: Final = ("kiwipiepy",)  # augmentation finds nouns with it
METRICS: Final = ("loss", "micro_f1", "auprc")
PREDICTIONS: Final = "predictions.npz"
HELD_OUT: Final = "held_out.npz"
CHECKPOINTS: Final = "checkpoints"
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
        return {
            "micro_f1": micro_f1(self.label_ids, self.predicted_ids),
            "auprc": auprc(self.label_ids, self.probabilities),
        }

    def save(self, path: Path) -> None:
        with whole(path) as file:
            np.savez_compressed(
                file, label_ids=self.label_ids, probabilities=self.probabilities.astype(np.float32)
            )

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Raises OSError, ValueError, KeyError or zipfile.BadZipFile where the file is not one that `save`
        wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["label_ids"], arrays["probabilities"])


class Record(TrainerCallback):
    """Asks for the evaluation at the end of a run, and writes `epochs.jsonl` after each one."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        # Whole each time: a resumed run repeats the epoch that the last checkpoint lies in.
        lines = [
            {
                "epoch": entry["epoch"],
                "step": entry["step"],
                **{name: entry[f"eval_{name}"] for name in METRICS},
            }
            for entry in state.log_history
            if "eval_micro_f1" in entry
        ]
        write(self.recipe.output / "epochs.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def claim(recipe: AnyRecipe) -> AnyRecipe:
    """The recipe as it runs in its folder: `bf16` as the run that is there has it, or as this machine is
    faster.

    Raises:
        InvalidRecipe: the folder holds another run, which is finished or has a checkpoint to go on from, or
            one that has lost its record.
    """
    bf16 = recipe.bf16
    if (recipe.output / FINISHED).exists() or last_checkpoint(recipe.output):
        fields, run = _record(recipe.output)
        asked = recipe.model_dump(mode="json", exclude_none=True)
        if bf16 is None or "bf16" not in fields:
            bf16 = asked["bf16"] = fields["bf16"] = fields.get("bf16", bf16)
        made_of = fingerprints(recipe)
        changed = [
            name for name in asked | fields if name not in UNDECISIVE and asked.get(name) != fields.get(name)
        ]
        changed += [
            name
            for name in ("train", "validation")
            if made_of["data"].get(name) != run.get("data", {}).get(name)
        ]
        changed += [
            name
            for name in made_of
            if name != "data" and name not in changed and made_of[name] != run.get(name)
        ]
        if changed:
            raise InvalidRecipe(
                f"output: {recipe.output} was begun with another {', '.join(changed)}; remove it or name another folder"
            )
    return recipe.model_copy(update={"bf16": bf16_pays() if bf16 is None else bf16})


def last_checkpoint(output: Path) -> str | None:
    """The newest checkpoint of a run that was written to its end: the Trainer writes its state last, and a
    kill may come before."""
    for checkpoint in sorted(
        output.glob(f"{CHECKPOINTS}/checkpoint-*"),
        key=lambda path: int(path.name.partition("-")[2]),
        reverse=True,
    ):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_bytes())
        except (OSError, ValueError):
            continue
        return str(checkpoint)
    return None


def begin(recipe: AnyRecipe, rows: int) -> None:
    """Write `recipe.yaml` and `run.json`.

    Args:
        rows: trained on, augmented ones included.
    """
    recipe.write(recipe.output / "recipe.yaml")
    run = {
        "began": datetime.now(UTC).isoformat(timespec="microseconds"),
        "seed": recipe.seed,
        "rows": rows,
        **fingerprints(recipe),
        "versions": versions(),
        "machine": {
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
        },
        "code": code(),
    }
    write(recipe.output / "run.json", json.dumps(run, indent=2) + "\n")


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
    write(
        recipe.output / FINISHED, json.dumps({**metrics, "rows": len(predictions.label_ids)}, indent=2) + "\n"
    )
    return metrics


def fingerprints(recipe: AnyRecipe) -> dict[str, Any]:
    """What a run is made of: its data files, its encoder, and where it has them its teachers and the model
    that augments its rows.

    Raises:
        InvalidRecipe: the encoder is neither a checkpoint folder nor a name on the hub.
    """
    files = {"train": recipe.train, "validation": recipe.validation}
    made_of: dict[str, Any] = {
        "data": {name: fingerprint(path) for name, path in files.items() if path is not None}
    }
    try:
        made_of["encoder"] = encoder_fingerprint(recipe.encoder)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    made_of["order"] = ORDER
    if isinstance(recipe, Recipe):
        if recipe.teachers:
            made_of["teachers"] = [weights_fingerprint(folder) for folder in recipe.teachers]
        if recipe.teacher_probabilities:
            made_of["teacher_probabilities"] = fingerprint(recipe.teacher_probabilities)["sha256"]
        if isinstance(recipe.augmentation, Contextual):
            made_of["augmentation"] = weights_fingerprint(Path(recipe.augmentation.model))
    return made_of


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
    return weights_fingerprint(Path(name))


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 over the weights in a checkpoint folder."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what comes out."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    for name in OPTIONAL_PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def code() -> dict[str, Any] | None:
    """The commit of this repository and whether files differ from it; None where git or the repository is not
    there."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit, changes = (
            subprocess.run(
                [*git, *words], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def _record(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a folder's recipe.yaml, and its run.json."""
    try:
        fields = yaml.safe_load((folder / "recipe.yaml").read_bytes())
        run = json.loads((folder / "run.json").read_bytes())
        if not (isinstance(fields, dict) and isinstance(run, dict)):
            raise ValueError("not a record")
    except (OSError, ValueError, yaml.YAMLError):
        raise InvalidRecipe(
            f"output: {folder} holds a run whose recipe.yaml or run.json is lost; remove it or name another folder"
        ) from None
    return fields, run
