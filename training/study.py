"""What each method of the training room gives: every one alone beside the plain recipe, and combinations,
over several seeds.

    python -m training.study recipes/ablation/study.yaml --jobs 2

All runs learn from the same training rows, as many as the study says, drawn by sentence. What a method gives
is its mean difference from the plain recipe, seed by seed; it counts as a gain, or as harm, only if it is
larger than the spread of the plain recipe over its seeds, and no difference of a seed is against it.
Interrupted, the same command goes on: what a run gave is kept in the study's `figures`, and a run whose
figures are there, of the same recipe, rows and encoder, is not trained again, on another machine neither.
TABLE in the study is written anew after each run, from the methods that are finished; the last line of stdout
is one JSON object. Exit status: 0; 2 when the study, a recipe or a file cannot be used; 1 when a run failed.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.cores import available_cores
from models.restriction import TypeMask, learn_restriction
from models.rows import InvalidRows, LabelledExample, read_labelled, sentence, sentence_halves
from models.voting import softmax
from training.calibrate import NONE, cross_fit, smoothed_share
from training.data.files import write
from training.run.experiment import FINISHED, PREDICTIONS, Predictions, claim, fingerprints
from training.run.recipe import ContextualRecipe, InvalidRecipe, PretrainingRecipe, Recipe

PLAIN: Final = "plain"
METRICS: Final = ("micro_f1", "auprc")
VOTE: Final = "plain runs voting"
WITHOUT_TRAINING: Final = (VOTE, "entity-type restriction", "temperature", "prior shift")

Metrics = Mapping[str, float]
Preparation = Literal["training.contextual", "training.pretrain"]
RECIPES: Final[dict[Preparation, type[ContextualRecipe] | type[PretrainingRecipe]]] = {
    "training.contextual": ContextualRecipe,
    "training.pretrain": PretrainingRecipe,
}


class RunFailed(RuntimeError):
    """A training run ended badly; the message says which, and where its log lies."""


class Study(BaseModel):
    """What is compared with what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path = Field(description="the plain recipe")
    rows: int = Field(ge=1, description="training rows, drawn by sentence")
    seeds: list[int] = Field(min_length=2)
    output: Path = Field(description="folder of the runs")
    figures: Path = Field(description="JSON file that keeps what each finished run gave")
    table: Path = Field(description="Markdown file of the finished methods")
    methods: dict[str, dict[str, Any]] = Field(
        description="name -> the fields in which its recipe differs from the plain one"
    )
    prepare: dict[str, tuple[Preparation, Path]] = Field(
        {}, description="method -> command and recipe of what it needs beforehand"
    )

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

    def recipes(self, methods: Iterable[str]) -> dict[str, list[Recipe]]:
        """The runs of each method (or of PLAIN), one a seed.

        Raises:
            InvalidRecipe: a method's fields do not make a recipe; the message names it.
        """
        base = Recipe.read(self.base).changed({"train": self.rows_file, "evaluate": "end"})
        made = {}
        for name in methods:
            fields = self.methods.get(name, {})
            try:
                made[name] = [
                    base.changed({**fields, "seed": seed, "output": self.folder(name, seed)})
                    for seed in self.seeds
                ]
            except InvalidRecipe as error:
                raise InvalidRecipe(f"methods.{name}: {error}") from None
        return made

    @property
    def rows_file(self) -> Path:
        """The rows that all runs learn from."""
        return self.output / "train.jsonl"

    def folder(self, name: str, seed: int) -> Path:
        return self.output / name.replace(" ", "-") / f"seed-{seed}"


def draw(path: Path, output: Path, rows: int) -> None:
    """Write rows of whole sentences, drawn in a random order that is always the same, until there are
    enough."""
    # no other sign ends a line of JSON
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    sentences = [sentence(row) for row in read_labelled(path)]
    order = sorted(set(sentences))
    random.Random(0).shuffle(order)
    place = {text: number for number, text in enumerate(order)}
    chosen = sorted(range(len(lines)), key=lambda index: (place[sentences[index]], index))[:rows]
    write(output, "".join(lines[index] + "\n" for index in chosen))


class Figures:
    """What finished runs gave, in a file: by method and seed, with a hash of what the run was made of."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._plain = study.base.read_text(encoding="utf-8")
        self._made_from = fingerprints(Recipe.read(study.base))
        self._writing = threading.Lock()
        self._kept: dict[str, dict[str, dict[str, Any]]] = {}
        if study.figures.exists():
            self._kept = json.loads(study.figures.read_text(encoding="utf-8"))

    def of(self, method: str, seed: int) -> Metrics | None:
        """A run's metrics, None where it is not finished, or was another run."""
        kept = self._kept.get(method, {}).get(str(seed))
        if kept is None or kept["made_of"] != self._made_of(method, seed):
            return None
        return {metric: kept[metric] for metric in METRICS}

    def keep(self, method: str, seed: int, metrics: Metrics) -> None:
        with self._writing:
            kept = {metric: metrics[metric] for metric in METRICS} | {"made_of": self._made_of(method, seed)}
            self._kept.setdefault(method, {})[str(seed)] = kept
            write(self._study.figures, json.dumps(self._kept, indent=1, ensure_ascii=False) + "\n")

    def write_table(self) -> dict[str, dict[str, Any]]:
        """The table of the methods that are finished, once the plain runs are; returns `summarise`'s
        figures."""
        with self._writing:
            finished = self._finished([PLAIN, *WITHOUT_TRAINING, *self._study.methods])
            if PLAIN not in finished:
                return {}
            summary = summarise(finished)
            write(self._study.table, table(summary))
            return summary

    def _finished(self, methods: Sequence[str]) -> dict[str, list[Metrics]]:
        """The metrics, seed by seed, of those methods that have them for every seed."""
        found = {
            method: [one for seed in self._study.seeds if (one := self.of(method, seed))]
            for method in methods
        }
        return {method: runs for method, runs in found.items() if len(runs) == len(self._study.seeds)}

    def _made_of(self, method: str, seed: int) -> str:
        """Of the texts that a user writes and of what the files hold, not of paths: these differ between
        machines."""
        parts = [
            self._plain,
            self._study.methods.get(method, method),
            self._study.rows,
            seed,
            self._made_from,
        ]
        if method in self._study.prepare:
            parts.append(self._study.prepare[method][1].read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]


class Trainings:
    """Commands of the training room, so many at a time, each in a process of its own with its share of the
    cores."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._processes: list[subprocess.Popen[bytes]] = []
        self._making: dict[Path, threading.Lock] = defaultdict(threading.Lock)

    def finish(self, output: Path, command: Sequence[str]) -> Metrics:
        """The metrics of what is made in a folder; it is made first, or gone on with, unless it is finished.
        Who asks for what another thread makes waits for it.

        Raises:
            RunFailed: the process ended with another status than 0.
        """
        with self._making[output]:
            return self._finish(output, command)

    def _finish(self, output: Path, command: Sequence[str]) -> Metrics:
        finished = output / FINISHED
        if not finished.exists():
            output.mkdir(parents=True, exist_ok=True)
            print(f"training.study: {output}", file=sys.stderr)
            share = {"OMP_NUM_THREADS": str(max(1, available_cores() // self._jobs))}
            with (log := output / "log.txt").open("ab") as lines:
                process = subprocess.Popen(
                    [sys.executable, "-m", *command], stdout=lines, stderr=lines, env=os.environ | share
                )
                self._processes.append(process)
                if status := process.wait():
                    raise RunFailed(f"{output}: ended with status {status}; its log is {log}")
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
        metrics: Metrics = json.loads(finished.read_bytes())
        return metrics

    def each(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Do all of them. Where one fails, those that run are stopped; the same command goes on with them."""
        with ThreadPoolExecutor(self._jobs) as threads:
            futures = [threads.submit(task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for process in self._processes:
                    process.terminate()
                raise


def without_training(
    plain: Predictions, train_rows: Sequence[LabelledExample], validation: Sequence[LabelledExample]
) -> dict[str, Metrics]:
    """What costs no run of its own, on one of the plain runs: the entity-type restriction that the training
    rows teach, a temperature, and half the prior shift (em), the last two fitted on the other half of the
    sentences."""
    mask = TypeMask(learn_restriction(train_rows))
    allowed = np.stack(
        [np.ones(30, dtype=bool) if (one := mask.allowed(row.example)) is None else one for row in validation]
    )
    logits = np.log(plain.probabilities.astype(np.float64) + 1e-12)
    halves = sentence_halves(validation)
    share = smoothed_share(sum(row.label_id == NONE for row in train_rows), len(train_rows))
    made = {
        "entity-type restriction": softmax(logits, allowed),
        "temperature": softmax(cross_fit(logits, plain.label_ids, halves)),
        "prior shift": softmax(cross_fit(logits, plain.label_ids, halves, "em", share)),
    }
    return {name: Predictions(plain.label_ids, probabilities).metrics for name, probabilities in made.items()}


def vote(runs: Sequence[Predictions]) -> Metrics:
    """The runs voting with equal weights."""
    return Predictions(runs[0].label_ids, np.mean([run.probabilities for run in runs], axis=0)).metrics


def summarise(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """For each method and metric: mean and spread (largest minus smallest) over the seeds, mean difference
    from plain, and what that is: `gain`, `harm`, or None where it may be chance."""
    summary: dict[str, dict[str, Any]] = {}
    for name, metrics in runs.items():
        summary[name] = {}
        for metric in METRICS:
            values, plain = (np.array([run[metric] for run in some]) for some in (metrics, runs[PLAIN]))
            differences = values - plain
            beyond = abs(differences.mean()) > np.ptp(plain) and abs(np.sign(differences).sum()) == len(
                differences
            )
            summary[name][metric] = {
                "mean": float(values.mean()),
                "spread": float(np.ptp(values)),
                "difference": float(differences.mean()),
                "effect": ("gain" if differences.mean() > 0 else "harm") if beyond else None,
            }
    return summary


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, a line a method."""
    lines = [
        "| | micro-F1 (spread) | over plain | AUPRC (spread) | over plain | beyond the spread of seeds |",
        "| --- " * 6 + "|",
    ]
    for name, metrics in summary.items():
        cells = [
            f"{one['mean']:.2f} ({one['spread']:.2f}) | {one['difference']:+.2f}" for one in metrics.values()
        ]
        titles = zip(("micro-F1", "AUPRC"), METRICS, strict=True)
        effects = [f"{title} {effect}" for title, metric in titles if (effect := metrics[metric]["effect"])]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {'' if name == PLAIN else ', '.join(effects) or 'nothing'} |"
        )
    return "\n".join(lines) + "\n"


def run(study: Study, jobs: int = 1) -> dict[str, dict[str, Any]]:
    """Train what is not trained yet, so many runs at a time, and write the table; returns `summarise`'s
    figures.

    Raises:
        InvalidRecipe, InvalidRows: the study or a file cannot be used.
        RunFailed: a run ended badly.
    """
    figures, trainings = Figures(study), Trainings(jobs)
    study.recipes(name for name in study.methods if name not in study.prepare)  # all that can be checked now
    draw(Recipe.read(study.base).train, study.rows_file, study.rows)

    def prepare(name: str) -> None:
        module, path = study.prepare[name]
        recipe = RECIPES[module].read(path)
        claim(recipe)
        trainings.finish(recipe.output, [module, str(path)])

    def finish(name: str, place: int) -> None:
        if name in study.prepare:
            prepare(name)
        seed, recipe = study.seeds[place], study.recipes([name])[name][place]
        claim(recipe)  # refused here, also where it is finished
        asked = recipe.output / "asked.yaml"
        recipe.write(asked)
        figures.keep(name, seed, trainings.finish(recipe.output, ["training.train", str(asked)]))
        if name == PLAIN:
            plain = Predictions.load(recipe.output / PREDICTIONS)
            for method, metrics in without_training(
                plain, read_labelled(recipe.train), read_labelled(recipe.validation)
            ).items():
                figures.keep(method, seed, metrics)
        figures.write_table()

    def runs(methods: Sequence[str], models_wanted: bool = False) -> list[Callable[[], None]]:
        places = range(len(study.seeds))
        return [
            partial(finish, name, place)
            for name in methods
            for place in places
            if models_wanted or not figures.of(name, study.seeds[place])
        ]

    left = [name for name in study.methods if not all(figures.of(name, seed) for seed in study.seeds)]
    # Others may name the plain runs as teachers: then their figures alone, kept from another machine, will
    # not do.
    trainings.each(runs([PLAIN], models_wanted=any(study.methods[name].get("teachers") for name in left)))
    predictions = [recipe.output / PREDICTIONS for recipe in study.recipes([PLAIN])[PLAIN]]
    # else their figures are kept from another machine, and so is their vote's
    if all(path.exists() for path in predictions):
        voted = vote([Predictions.load(path) for path in predictions])
        for seed in study.seeds:
            figures.keep(VOTE, seed, voted)
        figures.write_table()
    # What others wait for comes first.
    trainings.each([*(partial(prepare, name) for name in left if name in study.prepare), *runs(left)])
    return figures.write_table()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m training.study", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("study", type=Path, help="a YAML file; its fields are described in training/study.py")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time, each with its share of the cores (default 1)"
    )
    arguments = parser.parse_args(argv)
    # so that the runs are stopped as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        study = Study.read(arguments.study)
        summary = run(study, max(1, arguments.jobs))
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.study: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"training.study: {error}", file=sys.stderr)
        return 1
    print(table(summary), file=sys.stderr)
    print(json.dumps({"table": str(study.table), "methods": summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
