"""The search: both back ends find the better of two known configurations, go on after an interruption, and
say plainly what is wrong."""

import csv
import importlib.util
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from html import escape, unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import optuna
import pytest
import yaml

from training.errors import InvalidRecipe
from training.model.tiny_encoder import write_encoder
from training.run.recipe import Recipe
from training.search import main
from training.train import main as train_main
from training.trials.objective import EXAMPLE, load_objective
from training.trials.space import SearchSpace
from training.trials.study import importance, study_of
from training.trials.trial import Trial, table_of, write_table

TINY = Path(__file__).parents[1] / "recipes" / "tiny"

# The head cannot follow, so what is learnt is what the body learns: much, or nothing at all.
GOOD, BAD, WILD = 0.005, 1e-9, 1e30
TWO = {"parameters": {"learning_rate": {"type": "choice", "choices": [BAD, GOOD]}}, "trials": 3, "seed": 9}


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe that trains in a second."""
    folder = tmp_path_factory.mktemp("tiny")
    rows = (TINY / "train.jsonl").read_text(encoding="utf-8").splitlines()
    write_encoder(folder / "encoder", [json.loads(row)["sentence"] for row in rows])
    return {
        "encoder": str(folder / "encoder"),
        "train": str(TINY / "train.jsonl"),
        "validation": str(TINY / "validation.jsonl"),
        "epochs": 3,
        "batch_size": 8,
        "head_learning_rate": 1e-4,
        "bf16": False,
    }


def write(path: Path, fields: dict[str, Any], **more: object) -> Path:
    # JSON is YAML
    path.write_text(json.dumps({**fields, "output": str(path.parent / "run"), **more}), encoding="utf-8")
    return path


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def table(run: Path) -> list[dict[str, str]]:
    with (run / "search" / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_optuna_returns_the_better_of_two_known_configurations_prunes_the_other_and_goes_on(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write(tmp_path / "recipe.yaml", fields, search={**TWO, "pruner": "halving"})
    run = tmp_path / "run"
    assert main([str(recipe)]) == 0
    found = summary(capsys)
    assert found["best"]["parameters"] == {"learning_rate": GOOD}
    assert found["trials"] == 3
    lines = table(run)
    by_rate = {GOOD: [line for line in lines if float(line["learning_rate"]) == GOOD]}
    by_rate[BAD] = [line for line in lines if line not in by_rate[GOOD]]
    assert by_rate[GOOD]
    assert by_rate[BAD]
    assert {line["complete"] for line in by_rate[GOOD]} == {"True"}
    assert by_rate[BAD][-1]["complete"] == "False", (
        "the later one was compared with the better one, and stopped"
    )
    assert float(by_rate[BAD][-1]["epoch"]) < 3

    # The page: the winner's recipe to copy, a line for each trial, and what the pruner decided from too few.
    page = (run / "search" / "report.html").read_text(encoding="utf-8")
    assert escape((run / "search" / "best.yaml").read_text(encoding="utf-8")) in page
    assert all(f"<td>{line['trial']}</td>" in page for line in lines)
    assert "micro_f1 of a trial's last evaluation" in unescape(page)
    assert "higher is better" in page
    few, stopped = found["warnings"]
    assert "halving decides from fewer than 10 trials" in few
    assert by_rate[BAD][-1]["trial"] in stopped
    assert few in page
    assert {line["objective_is"] for line in lines} == {"maximize micro_f1"}
    assert int(by_rate[BAD][-1]["compared_with"]) == lines.index(by_rate[BAD][-1])

    # The best trial's recipe trains as it stands, to what the trial had.
    assert train_main([str(run / "search" / "best.yaml")]) == 0
    assert summary(capsys)["micro_f1"] == found["best"]["objective"]
    for plot in ("history", "epochs", "parameters"):
        assert ElementTree.parse(run / "search" / f"{plot}.svg").getroot().tag.endswith("svg")

    # As a kill leaves a study: a trial that runs for ever. One trial more, and none of the old ones again.
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{run / 'search' / 'study.db'}")
    study.ask(study.trials[0].distributions)
    assert (
        main([str(recipe), "--set", "search=" + json.dumps({**TWO, "pruner": "halving", "trials": 4})]) == 0
    )
    assert summary(capsys)["trials"] == 4
    assert table(run)[:3] == lines
    assert [trial.state.name for trial in study.get_trials()][3:] in (
        ["FAIL", "COMPLETE"],
        ["FAIL", "PRUNED"],
    )

    other = {**TWO, "pruner": "none"}
    assert main([str(recipe), "--set", "search=" + json.dumps(other)]) == 2
    assert "another recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_optuna_returns_the_least_where_the_least_is_wanted(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The better configuration has the larger micro-F1, so the least is that of the other one."""
    search = {**TWO, "direction": "minimize", "pruner": "halving"}
    assert main([str(write(tmp_path / "recipe.yaml", fields, search=search))]) == 0
    found = summary(capsys)
    assert found["best"]["parameters"] == {"learning_rate": BAD}
    lines = table(tmp_path / "run")
    complete = [float(line["objective"]) for line in lines if line["complete"] == "True"]
    assert found["best"]["objective"] == min(complete)
    assert "lower is better" in (tmp_path / "run" / "search" / "report.html").read_text(encoding="utf-8")


def trial(name: str, parameters: dict[str, Any], *objectives: float, complete: bool = True) -> Trial:
    epochs = [{"epoch": number, "loss": 1.0, "micro_f1": value} for number, value in enumerate(objectives, 1)]
    return Trial(name, name, parameters, epochs, list(objectives), complete)


def test_the_table_has_no_name_twice_and_a_place_for_every_metric(tmp_path: Path) -> None:
    space = SearchSpace(parameters={"loss": {"type": "choice", "choices": ["focal", "cross_entropy"]}})
    trials = [
        trial("a", {"loss": "focal"}, 50.0, 60.0),
        trial("b", {"loss": "cross_entropy"}, 40.0, complete=False),
    ]
    trials[1].epochs[-1]["exit_4_micro_f1"] = 30.0
    write_table(table_of(trials, space), tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert len(set(header)) == len(header)
    a, b = (dict(zip(header, line, strict=True)) for line in lines)
    assert (a["loss"], a["validation_loss"], a["validation_micro_f1"]) == ("focal", "1.0", "60.0")
    assert (a["validation_exit_4_micro_f1"], b["validation_exit_4_micro_f1"]) == ("", "30.0")
    assert (a["compared_with"], b["compared_with"]) == ("", "1")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_parameter_that_decides_is_the_important_one(direction: str) -> None:
    """The objective is the learning rate's logarithm, nearly; the other two parameters do nothing."""
    space = SearchSpace(
        direction=direction,
        parameters={
            "learning_rate": {"type": "log_uniform", "low": 1e-5, "high": 1e-2},
            "dropout": {"type": "uniform", "low": 0.0, "high": 0.5},
            "augmentation": {"type": "choice", "choices": [None, {"method": "aeda"}]},
        },
    )
    generator = random.Random(1)
    trials = []
    for number in range(40):
        rate, augmentation = 10 ** generator.uniform(-5, -2), generator.choice([None, {"method": "aeda"}])
        drawn = {"learning_rate": rate, "dropout": generator.uniform(0, 0.5), "augmentation": augmentation}
        trials.append(trial(str(number), drawn, 10 * math.log10(rate)))
    shares = importance(study_of(space, trials))
    assert set(shares) == set(space.parameters)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.6


@pytest.mark.slow
def test_optuna_goes_on_after_a_trial_that_diverges(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learning_rate = {"type": "choice", "choices": [WILD, GOOD]}
    rows = Path(shutil.copy(TINY / "train.jsonl", tmp_path / "rows.jsonl"))
    search = {"parameters": {"learning_rate": learning_rate}, "trials": 3, "seed": 9}
    recipe = write(
        tmp_path / "recipe.yaml", {**fields, "bf16": None, "train": str(rows)}, epochs=1, search=search
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.trials.search.bf16_pays", lambda: False)
        assert main([str(recipe)]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[-1])
    assert found["best"]["parameters"] == {"learning_rate": GOOD}
    assert 0 < found["complete"] < 3
    assert said.err.count("diverged") == 3 - found["complete"]
    study = optuna.load_study(
        study_name="search", storage=f"sqlite:///{tmp_path / 'run' / 'search' / 'study.db'}"
    )
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.trials.search.bf16_pays", lambda: pytest.fail("decided again"))
        assert main([str(recipe)]) == 0, "nothing is left to try"
    assert Recipe.read(tmp_path / "run" / "search" / "best.yaml").bf16 is False
    rows.write_text(rows.read_text(encoding="utf-8").replace("per:title", "no_relation", 1), encoding="utf-8")
    assert main([str(recipe)]) == 2
    assert "other rows" in capsys.readouterr().err


def test_a_search_of_which_every_trial_diverges_gets_one_plain_line(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"parameters": {"learning_rate": {"type": "choice", "choices": [WILD]}}, "trials": 1}
    assert main([str(write(tmp_path / "recipe.yaml", fields, epochs=1, search=search))]) == 2
    assert "training.search: search: no trial was completed" in capsys.readouterr().err
    assert not (tmp_path / "run" / "search" / "best.yaml").exists()


@pytest.mark.slow
def test_ray_returns_the_better_of_two_known_configurations(fields: dict[str, Any], tmp_path: Path) -> None:
    """As users run it, with paths that count from where they are; the objective is their own, and its least
    is wanted."""
    (tmp_path / "own.py").write_text("def error(metrics):\n    return 100 - metrics['micro_f1']\n")
    (tmp_path / "train.jsonl").symlink_to(TINY / "train.jsonl")
    learning_rate = {"type": "choice", "choices": [BAD, GOOD, WILD]}
    search = {
        "parameters": {"learning_rate": learning_rate},
        "trials": 3,
        "seed": 12,
        "parallel": 2,
        "pruner": "halving",
    }
    search |= {"objective": "own.error", "direction": "minimize"}
    relative = {"output": "run", "train": "train.jsonl", "search": search}
    write(tmp_path / "recipe.yaml", fields, **relative)
    command = [sys.executable, "-m", "training.search", "recipe.yaml", "--backend", "ray"]
    environment = os.environ | {"PYTHONPATH": str(TINY.parents[1])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["best"]["parameters"] == {"learning_rate": GOOD}
    objectives = {float(line["learning_rate"]): float(line["objective"]) for line in table(tmp_path / "run")}
    assert found["best"]["objective"] == objectives[GOOD] < objectives[BAD]
    assert len(list((tmp_path / "run" / "search" / "trials").iterdir())) == 3
    assert len(table(tmp_path / "run")) == 2, "one diverged"
    assert Recipe.read(tmp_path / "run" / "search" / "best.yaml").learning_rate == GOOD


KILLING = """
import os, signal
from pathlib import Path

def error(metrics):
    driver = Path("driver")
    if driver.exists() and len(list(Path("run/search/trials").glob("*/metrics.json"))) == 2:
        pid = int(driver.read_text())
        driver.unlink()
        os.kill(pid, signal.SIGKILL)
    return 100 - metrics["micro_f1"]
"""


@pytest.mark.slow
def test_a_search_with_ray_that_is_killed_goes_on(fields: dict[str, Any], tmp_path: Path) -> None:
    """The command is killed during the third of four trials. Given again, it runs the other two trials, and
    not the finished ones."""
    (tmp_path / "own.py").write_text(KILLING)
    learning_rate = {"type": "log_uniform", "low": 1e-4, "high": 1e-2}
    search = {"parameters": {"learning_rate": learning_rate}, "trials": 4, "seed": 12}
    search |= {"objective": "own.error", "direction": "minimize"}
    write(tmp_path / "recipe.yaml", fields, output="run", search=search)
    command = [sys.executable, "-m", "training.search", "recipe.yaml", "--backend", "ray"]
    environment = os.environ | {"PYTHONPATH": str(TINY.parents[1])}
    with (tmp_path / "log").open("wb") as log:
        killed = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        (tmp_path / "driver").write_text(str(killed.pid))
        assert killed.wait(timeout=550) == -signal.SIGKILL, (tmp_path / "log").read_text()
    trials = tmp_path / "run" / "search" / "trials"
    finished = {path: path.stat().st_mtime_ns for path in trials.glob("*/metrics.json")}
    assert len(finished) == 2
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["trials"], found["complete"]) == (4, 4)
    assert len(list(trials.iterdir())) == 4
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    lines = table(tmp_path / "run")
    assert found["best"]["objective"] == min(float(line["objective"]) for line in lines)
    assert len({line["learning_rate"] for line in lines}) == 4


def test_any_field_can_be_drawn_blocks_too() -> None:
    space = SearchSpace(
        parameters={
            "augmentation": {"type": "choice", "choices": [None, {"method": "aeda"}]},
            "epochs": {"type": "int", "low": 1, "high": 3},
        }
    )
    assert space.fields({"augmentation": '{"method": "aeda"}', "epochs": 2, "of the back end": 1}) == {
        "augmentation": {"method": "aeda"},
        "epochs": 2,
    }
    assert len(list(space.corners())) == 4


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"parameters": {}}, "parameters"),
        ({"parameters": {"colour": {"type": "uniform", "low": 0, "high": 1}}}, "colour: this is not a field"),
        (
            {"parameters": {"output": {"type": "choice", "choices": ["a", "b"]}}},
            "output: this is not a field",
        ),
        ({"parameters": {"dropout": {"type": "uniform", "low": 0, "high": 1}}}, "dropout"),
        ({"parameters": {"dropout": {"type": "uniform", "low": 0.5, "high": 0.1}}}, "low"),
        ({"parameters": {"learning_rate": {"type": "log_uniform", "low": 0, "high": 1}}}, "low"),
        ({"parameters": {"focal_gamma": {"type": "uniform", "low": 1, "high": 2}}}, "focal_gamma"),
        ({**TWO, "pruner": "magic"}, "pruner"),
        ({**TWO, "objective": "accuracy"}, "accuracy"),
        ({**TWO, "objective": "no_such_module:f"}, "no_such_module"),
        ({**TWO, "objective": "math:floor"}, "math:floor"),
        ({**TWO, "parallel": 2}, "use --backend ray"),
        (None, "no such block"),
    ],
)
def test_a_wrong_search_gets_one_plain_line(
    fields: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    search: dict[str, Any] | None,
    message: str,
) -> None:
    assert main([str(write(tmp_path / "recipe.yaml", fields, search=search))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_search_of_a_recipe_that_keeps_the_best_epoch_is_refused(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write(tmp_path / "recipe.yaml", fields, search=TWO, keep="best", patience=1)
    assert main([str(recipe)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "use --set keep=last --set patience=null" in line
    assert not (tmp_path / "run").exists()
    as_told = Recipe.read(recipe, {"keep": "last", "patience": "null"})
    assert (as_told.keep, as_told.patience) == ("last", None)


def test_a_pruner_wants_more_than_one_epoch(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="pruner"):
        Recipe.read(write(tmp_path / "recipe.yaml", fields, epochs=1, search={**TWO, "pruner": "median"}))


@pytest.mark.parametrize("backend", ["optuna", "ray"])
def test_a_back_end_that_is_not_installed_gets_one_plain_line(
    fields: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == backend else find_spec(name))
    assert main([str(write(tmp_path / "recipe.yaml", fields, search=TWO)), "--backend", backend]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{backend} is not installed" in line


def test_bad_data_is_said_before_anything_is_searched(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write(tmp_path / "recipe.yaml", fields, train="nothing.jsonl", search=TWO))]) == 2
    assert "nothing.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_objectives_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {**EXAMPLE, "micro_f1": 40.0, "auprc": 30.0}
    assert [load_objective(name)(metrics) for name in ("micro_f1", "auprc", "micro_f1+auprc")] == [40, 30, 70]
    (tmp_path / "mine.py").write_text("def twice(metrics):\n    return 2 * metrics['loss']\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_objective("mine:twice")(metrics) == load_objective("mine.twice")(metrics) == 2


def test_the_tiny_recipes_are_recipes() -> None:
    for name in ("train", "search", "distil"):
        recipe = Recipe.read(TINY / f"{name}.yaml")
        assert recipe.encoder == "runs/tiny/encoder"
        recipe.changed({"seed": 7})
    assert yaml.safe_load((TINY / "search.yaml").read_text(encoding="utf-8"))["search"]["trials"] < 10
