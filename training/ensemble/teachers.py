"""Teachers: an ensemble's probabilities for rows that a student learns from, in memory and as a file.

The loss is `Distillation` in training/model/losses.py.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.example import Example, InvalidExample
from models.labels import RELATIONS
from models.rows import LabelledExample
from training.data.files import whole
from training.errors import InvalidCheckpoint, InvalidRecipe, InvalidTeachers
from training.model.member import TrainedMember, vote
from training.run.recipe import Recipe
from training.run.record import weights_fingerprint

KEPT: Final = "teachers.npz"
"""The file in a student's folder, for a run that goes on after an interruption."""


def teach(checkpoints: Sequence[Path], examples: Sequence[Example]) -> NDArray[np.float32]:
    """The mean of the members' probabilities, shape (rows, 30). A member with exits gives their mean.

    Raises:
        InvalidCheckpoint: a folder is not a finished member.
        InvalidExample: an example's two entities do not fit into a member's window together.
    """
    votes = sum(vote(TrainedMember.load(checkpoint).logits(examples)) for checkpoint in checkpoints)
    return (votes / len(checkpoints)).astype(np.float32)


def teacher_votes(recipe: Recipe, rows: Sequence[LabelledExample]) -> NDArray[np.float32] | None:
    """The probabilities of a recipe's teachers for its rows, shape (rows, 30). None: it has no teachers.

    Those of `teachers` are computed once and kept in the recipe's folder.

    Raises:
        InvalidRecipe: the teachers, or the file of their probabilities, cannot be used.
    """
    examples = [row.example for row in rows]
    try:
        if recipe.teacher_probabilities is not None:
            return load(recipe.teacher_probabilities, examples)
        if recipe.teachers is None:
            return None
        kept = recipe.output / KEPT
        try:
            return load(kept, examples, recipe.teachers)
        except InvalidTeachers:  # no file yet, or of other rows or teachers
            probabilities = teach(recipe.teachers, examples)
            save(kept, examples, probabilities, recipe.teachers)
            return probabilities
    except (InvalidTeachers, InvalidCheckpoint, InvalidExample) as error:
        raise InvalidRecipe(f"teachers: {error}") from None


def save(
    path: Path, examples: Sequence[Example], probabilities: NDArray[np.float32], checkpoints: Sequence[Path]
) -> None:
    """Write the probabilities for the examples to a file."""
    names = np.array(_names(checkpoints))
    with whole(path) as file:
        np.savez(file, rows=_fingerprints(examples), probabilities=probabilities, teachers=names)


def load(
    path: Path, examples: Sequence[Example], checkpoints: Sequence[Path] | None = None
) -> NDArray[np.float32]:
    """The stored probabilities for the examples, in their order: shape (rows, 30).

    Args:
        checkpoints: the teachers that the file must come from; None: any.

    Raises:
        InvalidTeachers: the file is missing or of another kind, comes from other teachers, or does not have
            one of the examples.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            rows, probabilities = stored["rows"], stored["probabilities"]
            teachers = stored["teachers"].tolist()
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise InvalidTeachers(f"{path}: not a file of training.teach: {error}") from None
    if probabilities.shape != (len(rows), len(RELATIONS)):
        raise InvalidTeachers(
            f"{path}: probabilities have shape {probabilities.shape}, not ({len(rows)}, {len(RELATIONS)})"
        )
    if checkpoints is not None and teachers != _names(checkpoints):
        raise InvalidTeachers(f"{path}: it comes from other teachers: {', '.join(teachers)}")
    places = {row: place for place, row in enumerate(rows.tolist())}
    wanted = _fingerprints(examples).tolist()
    if missing := [index for index, row in enumerate(wanted) if row not in places]:
        sentence = examples[missing[0]].sentence
        raise InvalidTeachers(
            f"{path}: {len(missing)} of the {len(wanted)} training rows are not in it, the first one is "
            f"{sentence[:40]!r}; run training.teach on these rows"
        )
    return probabilities[[places[row] for row in wanted]]


def _names(checkpoints: Sequence[Path]) -> list[str]:
    """Each teacher's folder and the start of its weights' SHA-256, because a folder can be trained again."""
    return [f"{folder} {weights_fingerprint(folder)[:16]}" for folder in checkpoints]


def _fingerprints(examples: Sequence[Example]) -> NDArray[np.uint64]:
    """Hashes of sentence, spans and types; shape (rows,)."""
    return np.array(
        [int.from_bytes(hashlib.sha256(repr(example).encode()).digest()[:8]) for example in examples],
        dtype=np.uint64,
    )
