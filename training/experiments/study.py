"""A study: what each training method gives, compared with a plain recipe over several seeds."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from models.restriction import TypeMask, learn_restriction
from models.rows import LabelledExample, read_labelled, sentence, sentence_halves
from models.voting import softmax
from models.yaml_text import read_yaml
from training.data.files import write
from training.errors import InvalidRecipe
from training.experiments.study_figures import PLAIN, KeptFigures, Metrics, RunKey, summarise, table
from training.experiments.study_runs import StudyRuns
from training.model.calibration import NONE, ShiftOptions, cross_fit, smoothed_share
from training.run.predictions import Predictions
from training.run.recipe import ContextualRecipe, PretrainingRecipe, Recipe
from training.run.record import EPOCHS, PREDICTIONS, RUN, claim, fingerprints
from training.run.yaml_file import YamlFile

VOTE: Final = "plain runs voting"
WITHOUT_TRAINING: Final = (VOTE, "entity-type restriction", "temperature", "prior shift")
"""Methods that need no training run of their own."""

Preparation = Literal["training.contextual", "training.pretrain"]
RECIPES: Final[dict[Preparation, type[ContextualRecipe] | type[PretrainingRecipe]]] = {
    "training.contextual": ContextualRecipe,
    "training.pretrain": PretrainingRecipe,
}


class Study(YamlFile):
    """A study of methods: `python -m training.study`."""

    base: Path = Field(description="The plain recipe.")
    rows: int | None = Field(
        None, ge=1, description="Number of training rows of each run, drawn by sentence. Default: all."
    )
    seeds: list[int] = Field(
        min_length=1,
        description="Seeds; each method is trained once with each. One seed tells no effect from chance.",
    )
    output: Path = Field(description="Folder of the runs.")
    figures: Path = Field(description="JSON file that keeps the metrics of each finished run.")
    table: Path = Field(description="Markdown file with the table of the finished methods.")
    methods: dict[str, dict[str, Any]] = Field(
        description="Name of each method, with the recipe fields that it changes."
    )
    prepare: dict[str, tuple[Preparation, Path]] = Field(
        {}, description="Methods that first need another command, with that command and its recipe."
    )

    def recipes(self, methods: Iterable[str]) -> dict[str, list[Recipe]]:
        """The recipes of each method (or of PLAIN), one for each seed.

        Raises:
            InvalidRecipe: a method's fields do not make a recipe; the message names the method.
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
        return Recipe.read(self.base).train if self.rows is None else self.output / "train.jsonl"

    def folder(self, name: str, seed: int) -> Path:
        return self.output / name.replace(" ", "-") / f"seed-{seed}"

    def made_of(self) -> dict[RunKey, Any]:
        """What each run is made of: recipe files as they are written, and hashes of the data and the encoder.

        Paths of `$VARIABLE`s do not count, because they differ between machines.
        """
        plain, data = read_yaml(self.base), fingerprints(Recipe.read(self.base))
        made = {}
        for name in (PLAIN, *WITHOUT_TRAINING, *self.methods):
            preparation = read_yaml(self.prepare[name][1]) if name in self.prepare else None
            for seed in self.seeds:
                made[name, seed] = [plain, self.methods.get(name, name), self.rows, seed, data, preparation]
        return made


@dataclass(frozen=True, slots=True)
class _Progress:
    """A study that is being run."""

    study: Study
    figures: KeptFigures
    runs: StudyRuns

    def missing(self, methods: Iterable[str]) -> list[RunKey]:
        """The runs of these methods without kept figures."""
        keys = [(name, seed) for name in methods for seed in self.study.seeds]
        return [key for key in keys if not self.figures.of(*key)]

    def prepare(self, name: str) -> None:
        """Run the command that a method needs first, unless it is finished."""
        module, path = self.study.prepare[name]
        recipe = RECIPES[module].read(path)
        claim(recipe)
        self.runs.finish(recipe.output, [module, str(path)])

    def train(self, name: str, seed: int) -> None:
        """Train one run, unless it is finished; keep its figures and write the table."""
        if name in self.study.prepare:
            self.prepare(name)
        recipe = self.study.recipes([name])[name][self.study.seeds.index(seed)]
        claim(recipe)  # refuses a finished run of another recipe
        path = recipe.output / "study-recipe.yaml"
        recipe.write(path)
        metrics = self.runs.finish(recipe.output, ["training.train", str(path)])
        self.figures.keep(name, seed, metrics, circumstances(recipe.output))
        if name == PLAIN:
            plain = Predictions.load(recipe.output / PREDICTIONS)
            rows = read_labelled(recipe.train), read_labelled(recipe.validation)
            for method, metrics in without_training(plain, *rows).items():
                self.figures.keep(method, seed, metrics)
        self.write_table()

    def vote(self) -> None:
        """Keep the figures of the plain runs' vote, if their predictions are on this machine."""
        paths = [recipe.output / PREDICTIONS for recipe in self.study.recipes([PLAIN])[PLAIN]]
        if len(paths) > 1 and all(path.exists() for path in paths):
            voted = vote([Predictions.load(path) for path in paths])
            for seed in self.study.seeds:
                self.figures.keep(VOTE, seed, voted)
            self.write_table()

    def write_table(self) -> dict[str, dict[str, Any]]:
        """Write the table of the finished methods, once the plain runs are finished; returns its summary."""
        finished = {}
        for name in (PLAIN, *WITHOUT_TRAINING, *self.study.methods):
            found = [self.figures.of(name, seed) for seed in self.study.seeds]
            if all(found):
                finished[name] = [metrics for metrics in found if metrics]
        if PLAIN not in finished:
            return {}
        summary = summarise(finished)
        write(self.study.table, f"{table(summary, self.steps())}\n{self.about()}\n")
        return summary

    def steps(self) -> dict[str, int]:
        """The number of steps of each method whose runs have noted it; the largest of its seeds."""
        noted = {
            name: [self.figures.noted(name, seed).get("steps", 0) for seed in self.study.seeds]
            for name in (PLAIN, *self.study.methods)
        }
        return {name: max(steps) for name, steps in noted.items() if any(steps)}

    def about(self) -> str:
        """What the figures are of, in a sentence below the table."""
        names = (PLAIN, *self.study.methods)
        noted = [self.figures.noted(name, seed) for name in names for seed in self.study.seeds]
        machines = sorted({each["machine"] for each in noted if "machine" in each})
        rows = "all training rows" if self.study.rows is None else f"{self.study.rows:,} training rows"
        seeds = ", ".join(map(str, self.study.seeds))
        return f"Seeds: {seeds}. Rows: {rows}. Machines: {'; '.join(machines) or 'not noted'}."


def run_study(study: Study, jobs: int = 1) -> dict[str, dict[str, Any]]:
    """Train the missing runs, `jobs` at a time, and write the table.

    1. Check the recipes of the methods, and draw the training rows.
    2. Train the plain runs.
    3. Let the plain runs vote.
    4. Do the preparations, then train the methods.

    Returns:
        The summary of the table (`summarise`).

    Raises:
        InvalidRecipe, InvalidRows: the study or a file cannot be used.
        RunFailed: a run failed.
    """
    study.recipes(name for name in study.methods if name not in study.prepare)
    progress = _Progress(study, KeptFigures(study.figures, study.made_of()), StudyRuns(jobs))
    if study.rows is not None:
        draw_rows(Recipe.read(study.base).train, study.rows_file, study.rows)
    missing = progress.missing(study.methods)
    # A method can name the plain runs as teachers. Then their figures from another machine are not enough.
    taught = any(study.methods[name].get("teachers") for name, _ in missing)
    plain = [(PLAIN, seed) for seed in study.seeds] if taught else progress.missing([PLAIN])
    progress.runs.each([partial(progress.train, *key) for key in plain])
    progress.vote()
    prepared = {name for name, _ in missing if name in study.prepare}
    preparations: list[Callable[[], None]] = [partial(progress.prepare, name) for name in sorted(prepared)]
    progress.runs.each([*preparations, *(partial(progress.train, *key) for key in missing)])
    return progress.write_table()


def circumstances(run: Path) -> dict[str, Any]:
    """How many steps a finished run had, and on which machine."""
    last = json.loads((run / EPOCHS).read_text(encoding="utf-8").splitlines()[-1])
    machine = json.loads((run / RUN).read_bytes())["machine"]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return {"steps": last["step"], "machine": f"{machine['device']}, {threads}"}


def draw_rows(path: Path, output: Path, rows: int) -> None:
    """Write `rows` rows of whole sentences, drawn at random but always in the same order.

    Only the last sentence can be cut.
    """
    # split at \n only: no other character ends a line of JSON
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    sentences = [sentence(row) for row in read_labelled(path)]
    order = sorted(set(sentences))
    random.Random(0).shuffle(order)
    place = {text: number for number, text in enumerate(order)}
    chosen = sorted(range(len(lines)), key=lambda index: (place[sentences[index]], index))[:rows]
    write(output, "".join(lines[index] + "\n" for index in chosen))


def without_training(
    plain: Predictions, train_rows: Sequence[LabelledExample], validation: Sequence[LabelledExample]
) -> dict[str, Metrics]:
    """The metrics of the methods that only change the predictions of a plain run.

    These are the entity-type restriction from the training rows, a temperature, and half of the prior shift
    (em). The last two are cross-fitted over halves of the sentences.
    """
    mask = TypeMask(learn_restriction(train_rows))
    allowed = [mask.allowed(row.example) for row in validation]
    every = np.ones(plain.probabilities.shape[1], dtype=bool)
    allowed_rows = np.stack([every if one is None else one for one in allowed])
    logits = np.log(plain.probabilities.astype(np.float64) + 1e-12)
    labels, halves = plain.label_ids, sentence_halves(validation)
    share = smoothed_share(sum(row.label_id == NONE for row in train_rows), len(train_rows))
    made = {
        "entity-type restriction": softmax(logits, allowed_rows),
        "temperature": softmax(cross_fit(logits, labels, halves, ShiftOptions())),
        "prior shift": softmax(cross_fit(logits, labels, halves, ShiftOptions("em", share))),
    }
    return {name: Predictions(labels, probabilities).metrics for name, probabilities in made.items()}


def vote(runs: Sequence[Predictions]) -> Metrics:
    """The metrics of the runs' vote with equal weights."""
    return Predictions(runs[0].label_ids, np.mean([run.probabilities for run in runs], axis=0)).metrics
