"""What each method of the training room gives: every one alone beside the plain recipe, and combinations, over several seeds.

    python -m training.ablation recipes/ablation/study.yaml

All runs learn from the same training rows, as many as the study says, drawn by sentence. A method's gain is its mean difference from the
plain recipe, seed by seed; it counts as a gain only if it is larger than the spread of the plain recipe over its seeds, and no difference
of a seed is against it. Interrupted, the same command goes on. OUTPUT/table.md is the table, OUTPUT/study.json the figures; the last line
of stdout is one JSON object. Exit status: 0, or 2 when the study, a recipe or a file cannot be used.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import transformers
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.restriction import TypeMask, learn_restriction
from models.rows import InvalidRows, LabelledExample, read_labelled
from training.experiment import FINISHED, PREDICTIONS, Predictions
from training.folds import sentence
from training.recipe import InvalidRecipe, Recipe
from training.train import train

PLAIN: Final = "plain"
METRICS: Final = ("micro_f1", "auprc")


class Study(BaseModel):
    """What is compared with what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path = Field(description="the plain recipe")
    rows: int = Field(ge=1, description="training rows, drawn by sentence")
    seeds: list[int] = Field(min_length=2)
    output: Path = Field(description="folder of the runs and the table")
    methods: dict[str, dict[str, Any]] = Field(description="name -> the fields in which its recipe differs from the plain one")

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read a YAML file.

        Raises:
            InvalidRecipe: the file is missing or not YAML, or a field is unknown or of the wrong kind.
        """
        try:
            return cls(**yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
            raise InvalidRecipe(f"{path}: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            fault = error.errors()[0]
            raise InvalidRecipe(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None

    def recipes(self) -> dict[str, list[Recipe]]:
        """The runs of the plain recipe and of each method, one a seed; all checked before the first one begins.

        Raises:
            InvalidRecipe: a method's fields do not make a recipe; the message names it.
        """
        base = Recipe.read(self.base).changed({"train": self.output / "train.jsonl", "evaluate": "end"})
        made = {}
        for name, fields in {PLAIN: {}, **self.methods}.items():
            try:
                made[name] = [base.changed({**fields, "seed": seed, "output": self.folder(name, seed)}) for seed in self.seeds]
            except InvalidRecipe as error:
                raise InvalidRecipe(f"methods.{name}: {error}") from None
        return made

    def folder(self, name: str, seed: int) -> Path:
        return self.output / name.replace(" ", "-") / f"seed-{seed}"


def draw(path: Path, output: Path, rows: int) -> None:
    """Write rows of whole sentences, in a random order that is always the same, until there are enough."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    sentences = [sentence(row) for row in read_labelled(path)]
    order = sorted(set(sentences))
    random.Random(0).shuffle(order)
    place = {text: number for number, text in enumerate(order)}
    chosen = sorted(range(len(lines)), key=lambda index: (place[sentences[index]], index))[:rows]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(lines[index] + "\n" for index in chosen), encoding="utf-8")


def finish(recipe: Recipe) -> dict[str, float]:
    """A run's metrics on the validation rows; it is trained first, or gone on with, unless it is finished."""
    print(f"training.ablation: {recipe.output}", file=sys.stderr)
    if not (recipe.output / FINISHED).exists():
        train(recipe)
    shutil.rmtree(recipe.output / "checkpoints", ignore_errors=True)
    figures = json.loads((recipe.output / FINISHED).read_bytes())
    return {metric: figures[metric] for metric in METRICS}


def without_training(
    plain: Sequence[Predictions], train_rows: Sequence[LabelledExample], validation: Sequence[LabelledExample]
) -> dict[str, list[dict[str, float]]]:
    """What costs no run of its own: the plain runs voting together, and each under the entity-type restriction of the training rows."""
    mask = TypeMask(learn_restriction(train_rows))
    allowed = np.stack([np.ones(30, dtype=bool) if (one := mask.allowed(row.example)) is None else one for row in validation])
    restricted = []
    for run in plain:
        kept = run.probabilities * allowed
        restricted.append(Predictions(run.label_ids, kept / kept.sum(axis=1, keepdims=True)).metrics)
    vote = Predictions(plain[0].label_ids, np.mean([run.probabilities for run in plain], axis=0))
    return {"plain runs voting": [vote.metrics] * len(plain), "entity-type restriction": restricted}


def summarise(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """For each method and metric: mean and spread (largest minus smallest) over the seeds, mean difference from plain, and whether it is
    a gain."""
    summary: dict[str, dict[str, Any]] = {}
    for name, metrics in runs.items():
        summary[name] = {}
        for metric in METRICS:
            values, plain = (np.array([run[metric] for run in some]) for some in (metrics, runs[PLAIN]))
            differences = values - plain
            gains = bool(differences.mean() > np.ptp(plain) and (differences > 0).all())
            summary[name][metric] = {
                "mean": float(values.mean()),
                "spread": float(np.ptp(values)),
                "difference": float(differences.mean()),
                "gain": gains,
            }
    return summary


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, a line a method."""
    lines = ["| | micro-F1 (spread) | over plain | AUPRC (spread) | over plain | gain beyond the spread of seeds |", "| --- " * 6 + "|"]
    for name, metrics in summary.items():
        cells = [f"{one['mean']:.2f} ({one['spread']:.2f}) | {one['difference']:+.2f}" for one in metrics.values()]
        gains = " and ".join(metric for metric, title in zip(("micro-F1", "AUPRC"), METRICS, strict=True) if metrics[title]["gain"])
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if name == PLAIN else gains or 'none'} |")
    return "\n".join(lines) + "\n"


def run(study: Study) -> dict[str, dict[str, Any]]:
    """Train what is not trained yet, and write the table; returns `summarise`'s figures.

    Raises:
        InvalidRecipe, InvalidRows: as `training.train`.
    """
    recipes = study.recipes()
    if not (study.output / "train.jsonl").exists():
        draw(Recipe.read(study.base).train, study.output / "train.jsonl", study.rows)
    runs = {name: [finish(recipe) for recipe in members] for name, members in recipes.items()}
    plain = [Predictions.load(recipe.output / PREDICTIONS) for recipe in recipes[PLAIN]]
    runs |= without_training(plain, read_labelled(recipes[PLAIN][0].train), read_labelled(recipes[PLAIN][0].validation))
    summary = summarise(runs)
    (study.output / "study.json").write_text(json.dumps({"runs": runs, "summary": summary}, indent=2) + "\n", encoding="utf-8")
    (study.output / "table.md").write_text(table(summary), encoding="utf-8")
    return summary


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m training.ablation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("study", type=Path, help="a YAML file; its fields are described in training/ablation.py")
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()
    try:
        study = Study.read(arguments.study)
        summary = run(study)
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.ablation: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(table(summary), file=sys.stderr)
    print(json.dumps({"output": str(study.output), "methods": summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
