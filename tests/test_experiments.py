"""What a run leaves, that it stays the same after an interruption, and how two runs compare."""

import hashlib
import importlib.util
import json
import re
import shutil
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.labels import RELATIONS
from training.compare import main as compare
from training.errors import InvalidRecipe
from training.experiments.significance import mcnemar, micro_f1_difference
from training.run.predictions import Predictions
from training.run.recipe import Recipe
from training.run.record import begin, claim, code
from training.run.trainer import RelationTrainer
from training.tiny_encoder import main as write_tiny_encoder
from training.train import main

TINY = Path(__file__).parents[1] / "recipes" / "tiny"
ROWS = TINY / "train.jsonl"


@pytest.fixture(scope="module")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a run on the tiny rows: 2 epochs of 9 steps."""
    encoder = tmp_path_factory.mktemp("tiny") / "encoder"
    assert write_tiny_encoder([str(encoder), "--rows", str(ROWS)]) == 0
    fields = {"encoder": encoder, "train": ROWS, "validation": TINY / "validation.jsonl", "epochs": 2}
    return [str(TINY / "train.yaml"), *settings(**fields)]


@pytest.fixture(scope="module")
def runs(tiny_recipe: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same recipe with two seeds, the first one reporting to TensorBoard."""
    folder = tmp_path_factory.mktemp("runs")
    assert main([*tiny_recipe, *settings(output=folder / "a", report_to=["tensorboard"])]) == 0
    assert main([*tiny_recipe, *settings(output=folder / "b", seed=2, evaluate="end")]) == 0
    return [folder / "a", folder / "b"]


def page_of(path: Path) -> str:
    """A report, which loads nothing."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|@import|src=|url\((?!#)", text)
    return text


def settings(**fields: object) -> list[str]:
    return [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]


def epochs(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "epochs.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_leaves_a_record_to_return_to(runs: list[Path]) -> None:
    run, at_the_end = runs
    recipe = Recipe.read(run / "recipe.yaml")
    assert (recipe.output, recipe.seed, recipe.epochs) == (run, 1, 2)
    facts = json.loads((run / "run.json").read_bytes())
    assert facts["data"]["train"] == {"sha256": hashlib.sha256(ROWS.read_bytes()).hexdigest(), "rows": 72}
    assert (facts["seed"], facts["rows"], facts["packages"]["torch"]) == (1, 72, torch.__version__)
    assert ("kiwipiepy" in facts["packages"]) == (importlib.util.find_spec("kiwipiepy") is not None)
    assert facts["encoder"] == json.loads((at_the_end / "run.json").read_bytes())["encoder"]
    assert [(line["epoch"], line["step"]) for line in epochs(run)] == [(1, 9), (2, 18)]
    assert [line["epoch"] for line in epochs(at_the_end)] == [2]

    metrics = json.loads((run / "metrics.json").read_bytes())
    last = epochs(run)[-1]
    assert (metrics["micro_f1"], metrics["auprc"], metrics["rows"]) == (last["micro_f1"], last["auprc"], 24)
    kept = Predictions.load(run / "predictions.npz")
    assert kept.probabilities.shape == (24, len(RELATIONS))
    assert kept.metrics["micro_f1"] == metrics["micro_f1"]
    for name in ("curves.svg", "confusion.svg"):
        assert ElementTree.parse(run / name).getroot().tag.endswith("svg")
    shown = page_of(run / "report.html")
    wanted = [f"{metrics['micro_f1']:.2f}", f"{metrics['auprc']:.2f}", facts["data"]["train"]["sha256"]]
    wanted += [torch.__version__, *RELATIONS]
    assert all(f"<td>{each}</td>" in shown for each in wanted)
    assert escape((run / "recipe.yaml").read_text(encoding="utf-8")) in shown
    for number, line in enumerate(epochs(run), start=1):
        assert f"<tr><td>{number:.4g}</td><td>{line['step']}</td><td>{line['loss']:.4g}</td>" in shown


# the Trainer's, of checkpoints within a second of each other
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
def test_a_run_interrupted_between_the_end_of_an_epoch_and_its_evaluation_ends_the_same(
    tiny_recipe: list[str], runs: list[Path], tmp_path: Path
) -> None:
    class Interrupted(Exception): ...

    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted

    again = [*tiny_recipe, *settings(output=tmp_path / "run", save_steps=9)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RelationTrainer, "evaluate", interrupt)
        with pytest.raises(Interrupted):
            main(again)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-9").is_dir()
    assert main(again) == 0
    expected, got = (load_file(folder / "model.safetensors") for folder in (runs[0], tmp_path / "run"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert epochs(tmp_path / "run") == epochs(runs[0])[1:]
    # Once more: nothing is left to train, and the metrics are the same.
    assert main(again) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_bytes()) == json.loads(
        (runs[0] / "metrics.json").read_bytes()
    )


def test_a_folder_takes_no_other_run(
    tiny_recipe: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, encoder = Path(shutil.copy(ROWS, tmp_path / "rows.jsonl")), tmp_path / "encoder"
    overrides = dict(text.split("=", 1) for text in tiny_recipe[2::2])
    shutil.copytree(overrides["encoder"], encoder)
    recipe = Recipe.read(
        Path(tiny_recipe[0]),
        {**overrides, "bf16": "null", "encoder": str(encoder), "output": str(tmp_path / "run")},
    )
    monkeypatch.setattr("training.run.precision.bf16_pays", lambda: True)
    run = claim(recipe)
    assert run == recipe.changed({"bf16": True}), "the machine decides"
    begin(run, rows=72)
    assert claim(recipe.changed({"seed": 5, "bf16": False})).seed == 5, "nothing came of it yet"

    (tmp_path / "run" / "metrics.json").write_text("{}")
    monkeypatch.setattr("training.run.precision.bf16_pays", lambda: False)
    assert claim(recipe) == claim(run) == run, "what the machine decided once stays"
    claim(recipe.changed({"train": rows, "save_steps": 7, "report_to": ["tensorboard"], "evaluate": "end"}))

    def refused(recipe: Recipe) -> str:
        with pytest.raises(InvalidRecipe, match=r"^output: ") as refusal:
            claim(recipe)
        return str(refusal.value)

    assert "begun with another seed, bf16, loss;" in refused(
        recipe.changed({"seed": 5, "bf16": False, "loss": "focal"})
    )
    assert "begun with another teachers;" in refused(recipe.changed({"teachers": [encoder]}))
    rows.write_text(ROWS.read_text(encoding="utf-8").replace("per:title", "no_relation", 1), encoding="utf-8")
    assert "begun with another train, validation;" in refused(
        recipe.changed({"train": rows, "validation": rows})
    )
    with (encoder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert "begun with another encoder;" in refused(recipe)
    (tmp_path / "run" / "run.json").unlink()
    assert "is lost" in refused(recipe)


def test_tensorboard_is_told_of_losses_and_metrics(runs: list[Path]) -> None:
    events = EventAccumulator(str(runs[0] / "tensorboard")).Reload()
    assert {"train/loss", "eval/loss", "eval/micro_f1", "eval/auprc"} <= set(events.Tags()["scalars"])
    told = [event.value for event in events.Scalars("eval/micro_f1")]
    assert told == pytest.approx([line["micro_f1"] for line in epochs(runs[0])])


@pytest.mark.slow
def test_weights_and_biases_is_told_offline(
    tiny_recipe: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main([*tiny_recipe, *settings(output=tmp_path / "run", report_to=["wandb"], epochs=1)]) == 0
    assert wandb.run is None, "the next run is another one"
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"eval/micro_f1" in log.read_bytes()


def test_a_tracker_that_is_not_there_gets_one_plain_line(
    tiny_recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else find_spec(name))
    assert main([*tiny_recipe, *settings(output=tmp_path / "run", report_to=["wandb"])]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "wandb is not installed" in line


def test_without_git_a_run_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code() is None


def test_runs_are_compared_with_the_first(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare([str(runs[0]), str(runs[1]), str(runs[0])]) == 0
    *text, last = capsys.readouterr().out.splitlines()
    comparison = json.loads(last)
    assert comparison["differences"]["recipe.seed"] == [1, 2, 1]
    assert comparison["differences"]["recipe.report_to"] == [["tensorboard"], [], ["tensorboard"]]
    assert "recipe.output" not in comparison["differences"]
    first, second, third = comparison["metrics"]["micro_f1"]
    against, same = comparison["against_first"]
    low, high = against["micro_f1_interval"]
    assert low <= second - first <= high
    assert (third, same) == (
        first,
        {"same_label": 1, "micro_f1_interval": [0, 0], "mcnemar_p": 1, "movers": {}},
    )
    assert any("recipe.seed: 1 | 2 | 1" in line for line in text)


def test_runs_on_other_rows_are_not_compared_row_by_row(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    facts = json.loads((runs[1] / "run.json").read_bytes())
    facts["data"]["validation"]["sha256"] = "0" * 64
    (other / "run.json").write_text(json.dumps(facts))
    for name in ("recipe.yaml", "predictions.npz"):
        (other / name).write_bytes((runs[1] / name).read_bytes())
    assert compare([str(runs[0]), str(other)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["against_first"] == [None]


def test_a_folder_without_a_run_gets_one_plain_line(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal() -> str:
        assert compare([str(runs[0]), str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "recipe.yaml" in refusal()
    for name in ("recipe.yaml", "run.json"):
        (tmp_path / name).write_bytes((runs[1] / name).read_bytes())
    assert "predictions.npz" in refusal()
    np.savez(
        tmp_path / "predictions.npz", label_ids=np.array([{}], dtype=object), probabilities=np.zeros((1, 30))
    )
    assert "predictions.npz" in refusal()


def test_mcnemar_by_hand() -> None:
    labels = np.ones(20, dtype=np.int64)
    first, second = labels.copy(), labels.copy()
    first[:7], second[7:8] = 0, 0  # the second is right where the first is not in 7 rows, the other way in 1
    # 2 · (C(8, 0) + C(8, 1)) / 2^8
    assert mcnemar(labels, first, second) == mcnemar(labels, second, first) == 18 / 256
    assert mcnemar(labels, first, first) == 1


def test_the_interval_holds_the_difference_and_says_when_it_is_none() -> None:
    generator = np.random.default_rng(5)
    labels = generator.integers(30, size=500)
    better = np.where(generator.random(500) < 0.8, labels, 0)
    worse = np.where(generator.random(500) < 0.6, labels, 0)
    low, high = micro_f1_difference(labels, worse, better)
    assert 0 < low < high < 30
    assert micro_f1_difference(labels, worse, worse) == (0, 0)
    assert micro_f1_difference(labels, worse, better) == (low, high), "the same rows give the same interval"
