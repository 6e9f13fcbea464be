"""What an ensemble of finished members says of training rows, stored for a student to learn from:
distillation (training/model/losses.py).

    python -m training.teach runs/default/member-6 runs/default/member-12 --data train.jsonl --output runs/teachers.npz
    python -m training.train recipe.yaml --set teacher_probabilities=runs/teachers.npz

A recipe's `teachers` does the same within a training run. The answer is the ensemble's vote, the mean of its
members' probabilities. Rows are known by their content, so a student may train on some of them, in any order.
Labels are not read. The last line of stdout is one JSON object.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
import transformers
from numpy.typing import NDArray

from models.example import Example, InvalidExample
from models.labels import RELATIONS
from models.rows import InvalidRows, LabelledExample, read_examples
from models.voting import softmax
from training.data.files import whole
from training.model.member import InvalidCheckpoint, TrainedMember
from training.run.experiment import weights_fingerprint
from training.run.recipe import InvalidRecipe, Recipe

KEPT: Final = "teachers.npz"


class InvalidTeachers(ValueError):
    """A file of teachers' probabilities that cannot be used; the message names the file and what is wrong."""


def teach(checkpoints: Sequence[Path], examples: Sequence[Example]) -> NDArray[np.float32]:
    """The vote of an ensemble, every member with the same weight: probabilities of shape (rows, 30).

    Raises:
        InvalidCheckpoint: a folder is not a finished member.
        InvalidExample: an example's two entities do not fit into a member's window together.
    """
    votes = sum(softmax(TrainedMember.load(checkpoint).logits(examples)) for checkpoint in checkpoints)
    return (votes / len(checkpoints)).astype(np.float32)


def taught(recipe: Recipe, rows: Sequence[LabelledExample]) -> NDArray[np.float32] | None:
    """What a recipe's teachers say of its rows: probabilities of shape (rows, 30), or None where it has no
    teachers.

    The answers of `teachers` are kept in the recipe's output folder, for an interrupted run to go on with.

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
        except InvalidTeachers:  # none yet, or of other rows or teachers
            probabilities = teach(recipe.teachers, examples)
            save(kept, examples, probabilities, recipe.teachers)
            return probabilities
    except (InvalidTeachers, InvalidCheckpoint, InvalidExample) as error:
        raise InvalidRecipe(f"teachers: {error}") from None


def save(
    path: Path, examples: Sequence[Example], probabilities: NDArray[np.float32], checkpoints: Sequence[Path]
) -> None:
    """Store a vote on the examples, whole or not at all."""
    with whole(path) as file:
        np.savez(
            file,
            rows=_fingerprints(examples),
            probabilities=probabilities,
            teachers=np.array(_names(checkpoints)),
        )


def load(
    path: Path, examples: Sequence[Example], checkpoints: Sequence[Path] | None = None
) -> NDArray[np.float32]:
    """The stored vote on the examples, in their order: shape (rows, 30).

    Args:
        checkpoints: refuse the vote of others; by default any will do.

    Raises:
        InvalidTeachers: the file is missing or of another kind, holds others' vote, or does not know one of
            the examples.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            rows, probabilities, teachers = (
                stored["rows"],
                stored["probabilities"],
                stored["teachers"].tolist(),
            )
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise InvalidTeachers(f"{path}: not what training.teach stores: {error}") from None
    if probabilities.shape != (len(rows), len(RELATIONS)):
        raise InvalidTeachers(
            f"{path}: probabilities have shape {probabilities.shape}, not ({len(rows)}, {len(RELATIONS)})"
        )
    if checkpoints is not None and teachers != _names(checkpoints):
        raise InvalidTeachers(f"{path}: the vote of {', '.join(teachers)}")
    places = {row: place for place, row in enumerate(rows.tolist())}
    asked = _fingerprints(examples).tolist()
    if missing := [index for index, row in enumerate(asked) if row not in places]:
        sentence = examples[missing[0]].sentence
        raise InvalidTeachers(
            f"{path}: {len(missing)} of the {len(asked)} training rows are not in it, the first is {sentence[:40]!r}"
        )
    return probabilities[[places[row] for row in asked]]


def _names(checkpoints: Sequence[Path]) -> list[str]:
    """Each teacher's folder and the beginning of its weights' SHA-256: a folder may be trained into anew."""
    return [f"{folder} {weights_fingerprint(folder)[:16]}" for folder in checkpoints]


def _fingerprints(examples: Sequence[Example]) -> NDArray[np.uint64]:
    """Of sentence, spans and types; shape (rows,)."""
    return np.array(
        [int.from_bytes(hashlib.sha256(repr(example).encode()).digest()[:8]) for example in examples],
        dtype=np.uint64,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.teach",
        description="Store what an ensemble says of training rows.",
    )
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="folder of a finished member"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="KLUE-RE rows; labels are not read"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()
    try:
        examples = read_examples(arguments.data)
        save(arguments.output, examples, teach(arguments.checkpoints, examples), arguments.checkpoints)
    except (InvalidCheckpoint, InvalidRows, InvalidExample, OSError) as error:
        print(f"training.teach: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(
        json.dumps(
            {
                "output": str(arguments.output),
                "rows": len(examples),
                "teachers": list(map(str, arguments.checkpoints)),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
