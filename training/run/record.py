"""The record that a run leaves in its folder, for comparison (`training.compare`) and to go on from.

    recipe.yaml      the recipe as it ran, with overrides, defaults, and what the machine decided
    run.json         seed, hashes of data, encoder and teachers, packages, commit, start time
    epochs.jsonl     loss and metrics on the validation rows, and of each exit, one line for each evaluation
    metrics.json     the metrics at the end; written last: a run with this file is finished
    predictions.npz  labels and probabilities of the validation rows
    held_out.npz     the same of the rows that the recipe's fold holds out
    curves.svg, confusion.svg
    report.html      all of this on one page

`training.pretrain` and `training.contextual` leave recipe.yaml, run.json and metrics.json. A folder with a
record takes no other run (`claim`).
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic_core import PydanticUndefined

from models.rows import count_rows, sha256
from training.augmentation.contextual import Contextual
from training.augmentation.eda import Eda
from training.augmentation.synonyms import SYNONYMS
from training.data.files import write
from training.data.folds import RULE
from training.errors import InvalidRecipe
from training.model.head_name import HeadName, own_code
from training.run.precision import AnyRecipe, decide
from training.run.predictions import Predictions
from training.run.recipe import Recipe, RunRecipe, renamed

RECIPE: Final = "recipe.yaml"
RUN: Final = "run.json"
EPOCHS: Final = "epochs.jsonl"
FINISHED: Final = "metrics.json"
PREDICTIONS: Final = "predictions.npz"
HELD_OUT: Final = "held_out.npz"
CHECKPOINTS: Final = "checkpoints"
CURVES, CONFUSION = "curves.svg", "confusion.svg"
REPORT: Final = "report.html"
RESULTS: Final = (EPOCHS, FINISHED, PREDICTIONS, HELD_OUT, CURVES, CONFUSION, REPORT)
"""The files that describe the quality of the trained model."""

TRAINER_STATE: Final = "trainer_state.json"
"""The file of a checkpoint that the Trainer writes last."""
ORDER: Final = "tokens"
"""How training rows are sorted into batches (data/dataset.py). A run with another order cannot go on."""
UNDECISIVE: Final = frozenset(
    {"output", "train", "validation", "evaluate", "report_to", "save_steps", "search", "compile"}
)
"""Fields that do not change the trained model. Of data files the content counts, not the path."""
PACKAGES: Final = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "kiwipiepy")
"""Those that can change the trained model."""
METRICS: Final = ("loss", "micro_f1", "auprc")


def claim(recipe: AnyRecipe) -> AnyRecipe:
    """The recipe for a run in its folder, with `bf16` decided: as in the folder's run, or by measurement.

    Raises:
        InvalidRecipe: the folder has another run that is finished or has a checkpoint, or its record is lost.
    """
    bf16 = recipe.bf16
    if is_finished(recipe.output) or last_checkpoint(recipe.output):
        fields, run = _read_record(recipe.output)
        if bf16 is None:
            bf16 = fields.get("bf16")
        wanted = recipe.model_copy(update={"bf16": bf16}).model_dump(mode="json", exclude_none=True)
        # a run of an older commit has no newer fields: it ran with their defaults
        defaults = {name: field.default for name, field in type(recipe).model_fields.items()}
        without = (None, PydanticUndefined)
        fields = {name: value for name, value in defaults.items() if value not in without} | fields
        made_of = fingerprints(recipe)
        recorded = {**run, **run.get("data", {})}
        changed = [
            name
            for name in wanted | fields
            if name not in UNDECISIVE and wanted.get(name) != fields.get(name)
        ]
        current = {name: made_of["data"].get(name) for name in ("train", "validation")}
        current |= {name: made_of[name] for name in made_of if name != "data"}
        changed += [name for name in current if name not in changed and current[name] != recorded.get(name)]
        if changed:
            raise InvalidRecipe(
                f"output: {recipe.output} was begun with another {', '.join(changed)}; remove the folder or "
                "name another one"
            )
    return decide(recipe.model_copy(update={"bf16": bf16}))


def is_finished(output: Path) -> bool:
    """Whether a folder has a finished run."""
    return (output / FINISHED).exists()


def last_checkpoint(output: Path) -> str | None:
    """The newest complete checkpoint of a run. A kill can leave an incomplete one."""
    checkpoints = output.glob(f"{CHECKPOINTS}/checkpoint-*")
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / TRAINER_STATE).read_bytes())
        except (OSError, ValueError):
            continue
        return str(checkpoint)
    return None


def begin(recipe: RunRecipe, rows: int, **counts: int) -> None:
    """Write `recipe.yaml` and `run.json`.

    Args:
        rows: number of rows to train on, with augmented ones.
        counts: more numbers of rows for `run.json`, by name.
    """
    import torch

    recipe.write(recipe.output / RECIPE)
    run = {
        "began": datetime.now(UTC).isoformat(timespec="microseconds"),
        "seed": recipe.seed,
        "rows": rows,
        **counts,
        **fingerprints(recipe),
        "packages": packages(),
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
        },
        "code": code(),
    }
    write(recipe.output / RUN, json.dumps(run, indent=2) + "\n")


def finish(
    recipe: Recipe, predictions: Predictions, apart: NDArray[np.bool_], history: Sequence[dict[str, float]]
) -> dict[str, float]:
    """Write the predictions, the plots, the report and the metrics; returns the metrics.

    Args:
        predictions: for the validation rows.
        apart: whether a validation row's sentence is not among the training rows, shape (rows,). If some
            are, metrics.json has the metrics both ways.
        history: the Trainer's log.
    """
    from training.run.plots import draw_confusion, draw_curves
    from training.run.report import write_report

    folder = recipe.output
    predictions.save(folder / PREDICTIONS)
    draw_curves(history, folder / CURVES)
    draw_confusion(predictions.label_ids, predictions.predicted_ids, folder / CONFUSION)
    shown = predictions.part(apart if recipe.apart else apart | True)
    metrics = shown.metrics
    both: dict[str, Any] = {}
    if apart.any() and not apart.all():
        for name, rows in (("all_rows", apart | True), ("apart_rows", apart)):
            both[name] = {**predictions.part(rows).metrics, "rows": int(rows.sum())}
    document = {**metrics, "rows": len(shown.label_ids), **both}
    write_report(folder, document, shown, (folder / CURVES).read_text(encoding="utf-8"))
    write_metrics(recipe, document)
    return metrics


def write_metrics(recipe: RunRecipe, metrics: dict[str, Any]) -> None:
    """Write `metrics.json`, which makes the run finished."""
    write(recipe.output / FINISHED, json.dumps(metrics, indent=2) + "\n")


def fingerprints(recipe: RunRecipe) -> dict[str, Any]:
    """What a run is made of: hashes of its data files, encoder, teachers, augmentation model and own head.

    Raises:
        InvalidRecipe: the encoder is neither a checkpoint folder nor a name on the hub, or the file of
            the head is missing.
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
    if recipe.fold is not None:
        made_of["fold_rule"] = RULE
    if isinstance(recipe, Recipe):
        if recipe.head not in get_args(HeadName):
            made_of["head"] = _head_fingerprint(recipe.head)
        if recipe.teachers:
            made_of["teachers"] = [weights_fingerprint(folder) for folder in recipe.teachers]
        if recipe.teacher_probabilities:
            made_of["teacher_probabilities"] = sha256(recipe.teacher_probabilities)
        if isinstance(recipe.augmentation, Contextual):
            made_of["augmentation"] = weights_fingerprint(Path(recipe.augmentation.model))
        if isinstance(recipe.augmentation, Eda):
            made_of["synonyms"] = sha256(SYNONYMS)
    return made_of


def _head_fingerprint(head: str) -> str:
    try:
        return own_code(head)[1]
    except ValueError as error:
        raise InvalidRecipe(str(error)) from None


def fingerprint(path: Path) -> dict[str, Any]:
    """A data file's SHA-256 and its number of rows."""
    return {"sha256": sha256(path), "rows": count_rows(path)}


def encoder_fingerprint(name: str) -> str | None:
    """SHA-256 of the weights in a checkpoint folder, or the commit of a name on the hub."""
    if Path(name).is_dir():
        return weights_fingerprint(Path(name))
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(name)._commit_hash


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 of the weights in a checkpoint folder."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def packages() -> dict[str, str]:
    """Every installed package with its version, by name."""
    found = {each.metadata["Name"]: each.version for each in distributions()}
    return dict(sorted((name, number) for name, number in found.items() if name))


def code() -> dict[str, Any] | None:
    """This repository's commit and how tracked files differ from it. None without git or a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit, changes, diff = (
            subprocess.run(
                [*git, *words], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"], ["diff", "HEAD"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes), "diff": diff}


def _read_record(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a folder's recipe.yaml, and its run.json."""
    try:
        fields = yaml.safe_load((folder / RECIPE).read_bytes())
        run = json.loads((folder / RUN).read_bytes())
        if not (isinstance(fields, dict) and isinstance(run, dict)):
            raise ValueError("not a record")
    except (OSError, ValueError, yaml.YAMLError):
        raise InvalidRecipe(
            f"output: {folder} has a run whose recipe.yaml or run.json is lost; remove the folder or name "
            "another one"
        ) from None
    return renamed(fields), run
