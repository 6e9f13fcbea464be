"""A study: its arithmetic by hand, its draw by sentence, and small studies from the command."""

import json
import shutil
import threading
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from loadtest.sentences import Row
from models.rows import read_labelled, sentence
from training.experiments.study import WITHOUT_TRAINING, Study, draw_rows
from training.experiments.study_figures import summarise, table
from training.study import main

ROOT = Path(__file__).resolve().parents[1]


class InProcess:
    """Replaces `subprocess.Popen` for a study: each command runs in this process, one at a time."""

    turn = threading.Lock()

    def __init__(self, command: list[str], **_: object) -> None:
        _, _, module, *arguments = command
        with self.turn:
            self._status = import_module(module).main(arguments)

    def wait(self) -> int:
        return int(self._status)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies train in this process, without importing PyTorch for each run."""
    monkeypatch.setattr("training.experiments.study_runs.subprocess", SimpleNamespace(Popen=InProcess))


def test_a_gain_or_a_harm_is_larger_than_the_spread_of_the_plain_runs() -> None:
    runs = {
        "plain": [{"micro_f1": 50.0, "auprc": 40.0}, {"micro_f1": 51.0, "auprc": 40.5}],
        "better": [{"micro_f1": 52.0, "auprc": 40.1}, {"micro_f1": 52.5, "auprc": 40.6}],
        "mixed": [{"micro_f1": 49.0, "auprc": 30.0}, {"micro_f1": 56.0, "auprc": 30.0}],
    }
    summary = summarise(runs)
    assert summary["plain"]["micro_f1"] == {"mean": 50.5, "spread": 1.0, "difference": 0.0, "effect": None}
    assert summary["better"]["micro_f1"]["difference"] == pytest.approx(1.75)
    assert summary["better"]["micro_f1"]["effect"] == "gain"
    assert summary["better"]["auprc"]["effect"] is None, (
        "a tenth of a point is within the spread of half a point"
    )
    assert summary["mixed"]["micro_f1"]["effect"] is None, "one seed lost"
    assert summary["mixed"]["auprc"]["effect"] == "harm"
    assert "| +1.75 | 40.35 (0.50) | +0.10 | micro-F1 gain |" in table(summary)
    assert "| AUPRC harm |" in table(summary)


def test_one_seed_tells_no_effect() -> None:
    runs = {"plain": [{"micro_f1": 50.0, "auprc": 40.0}], "better": [{"micro_f1": 60.0, "auprc": 30.0}]}
    summary = summarise(runs)
    assert summary["better"]["micro_f1"] == {"mean": 60, "spread": None, "difference": 10, "effect": None}
    made = table(summary, {"plain": 250})
    assert "| plain | 250 | 50.00 (–) | +0.00 |" in made
    assert "| better | – | 60.00 (–) | +10.00 | 30.00 (–) | -10.00 | not known from one seed |" in made


@pytest.mark.slow
def test_a_study_of_all_rows_and_one_seed_says_its_steps_and_its_machine(
    recipe_file: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(json.dumps(json.loads(recipe_file.read_text(encoding="utf-8")) | {"epochs": 0.5}))
    paths = {name: str(tmp_path / name) for name in ("output", "figures", "table")}
    methods = {"focal loss": {"loss": "focal"}}
    study = tmp_path / "study.yaml"
    study.write_text(
        yaml.safe_dump({"base": str(base), "seeds": [1], "methods": methods, **paths}), encoding="utf-8"
    )
    assert main([str(study)]) == 0
    said = (tmp_path / "table").read_text(encoding="utf-8")
    run = tmp_path / "output" / "plain" / "seed-1"
    steps = json.loads((run / "epochs.jsonl").read_text().splitlines()[-1])["step"]
    assert f"| plain | {steps} | " in said
    assert f"| focal loss | {steps} | " in said
    assert "Seeds: 1. Rows: all training rows. Machines: cpu, 1 thread." in said
    assert "plain runs voting" not in said, "one run is no vote"
    assert not (tmp_path / "output" / "train.jsonl").exists()
    shown = capsys.readouterr()
    assert said in shown.err, "the command shows the table that it writes"
    again = json.loads(shown.out.splitlines()[-1])
    assert main([str(study)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == again


def test_rows_are_drawn_by_sentence(rows: list[Row], tmp_path: Path) -> None:
    twice = [{**row, "guid": f"{row['guid']}-{copy}"} for copy in (1, 2) for row in rows]
    source, drawn = tmp_path / "rows.jsonl", tmp_path / "out" / "drawn.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in twice), encoding="utf-8")
    draw_rows(source, drawn, 100)
    kept = read_labelled(drawn)
    assert len(kept) == 100
    everywhere = [sentence(row) for row in read_labelled(source)]
    texts = [sentence(row) for row in kept]
    split = [text for text in set(texts) if texts.count(text) != everywhere.count(text)]
    assert len(split) <= 1, "only the last sentence may be cut"
    again = tmp_path / "again.jsonl"
    draw_rows(source, again, 100)
    assert again.read_bytes() == drawn.read_bytes()


@pytest.mark.slow
def test_a_study_trains_each_method_over_the_seeds_and_goes_on_where_it_was(
    recipe_file: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(json.dumps(json.loads(recipe_file.read_text(encoding="utf-8")) | {"epochs": 1}))
    fields = {"base": str(base), "rows": 60, "seeds": [1, 2], "output": str(tmp_path / "study")}
    fields |= {
        "figures": str(tmp_path / "kept" / "figures.json"),
        "table": str(tmp_path / "docs" / "table.md"),
    }
    study = tmp_path / "study.yaml"
    study.write_text(
        yaml.safe_dump(fields | {"methods": {"label smoothing": {"label_smoothing": 0.1}}}), encoding="utf-8"
    )
    assert main([str(study)]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(first["methods"]) == {"plain", *WITHOUT_TRAINING, "label smoothing"}
    assert len(list((tmp_path / "study").rglob("model.safetensors"))) == 4
    assert "| label smoothing |" in (tmp_path / "docs" / "table.md").read_text(encoding="utf-8")
    shutil.rmtree(tmp_path / "study")
    assert main([str(study)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first, (
        "on another machine the kept figures will do"
    )
    assert not list((tmp_path / "study").rglob("model.safetensors")), "nothing is trained again"
    taught = {
        "distillation": {"teachers": [str(tmp_path / "study" / "plain" / f"seed-{seed}") for seed in (1, 2)]}
    }
    study.write_text(yaml.safe_dump(fields | {"methods": taught}), encoding="utf-8")
    assert main([str(study)]) == 0, "but teachers are, which kept figures cannot replace"
    assert len(list((tmp_path / "study").rglob("model.safetensors"))) == 4
    capsys.readouterr()
    study.write_text(yaml.safe_dump(fields | {"rows": 50, "methods": {}}), encoding="utf-8")
    assert main([str(study)]) == 2, "what is there was trained on other rows"
    assert "was begun with another train" in capsys.readouterr().err
    study.write_text(yaml.safe_dump(fields | {"methods": {"odd": {"no_such_field": 1}}}), encoding="utf-8")
    assert main([str(study)]) == 2
    assert "methods.odd: no_such_field" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_log_and_the_same_command_goes_on(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {
        "base": str(recipe_file),
        "rows": 60,
        "seeds": [1, 2],
        "output": str(tmp_path / "study"),
        "methods": {},
    }
    fields |= {"figures": str(tmp_path / "figures.json"), "table": str(tmp_path / "table.md")}
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(fields), encoding="utf-8")
    folder = tmp_path / "study" / "plain" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").mkdir()  # the model cannot be written
    assert main([str(study)]) == 1
    assert f"{folder}: the run ended with status" in (said := capsys.readouterr().err)
    assert str(folder / "log.txt") in said
    (folder / "model.safetensors").rmdir()
    assert main([str(study), "--jobs", "2"]) == 0
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])["methods"]) == {
        "plain",
        *WITHOUT_TRAINING,
    }


def test_the_shipped_study_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    monkeypatch.setenv("KLUE_RE_DATA", "a-folder")
    deep = Study.read(Path("recipes/study/deep.yaml"))
    assert deep.rows is None
    recipes = deep.recipes(["plain", *deep.methods])
    assert {recipe.layers for made in recipes.values() for recipe in made} == {6}
    assert set(recipes) == {"plain", "AEDA", "focal loss", "R-Drop"}
    # AEDA doubles the rows, so that all have the same number of steps
    assert {name: made[0].epochs for name, made in recipes.items()} == {
        **dict.fromkeys(recipes, 1),
        "AEDA": 0.5,
    }
    study = Study.read(Path("recipes/study/study.yaml"))
    assert study.rows == 8000
    (tmp_path / "config.json").write_text('{"architectures": ["ConditionalMaskedLM"]}')
    study.methods["contextual augmentation"]["augmentation"]["model"] = str(tmp_path)
    assert set(study.recipes(study.methods)) == set(study.methods)
    assert set(study.prepare) < set(study.methods)
