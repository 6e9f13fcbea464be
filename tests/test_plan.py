"""--dry-run says what a run will take, from the encoder's config and tokenizer alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from training.members import main as members
from training.run.recipe import Recipe
from training.run.training import fit, prepare
from training.train import main

FEW = {
    "train_rows": "90",
    "epochs": "2",
    "batch_size": "16",
    "gradient_accumulation": "2",
    "type_dropout": "0",
}


@pytest.fixture
def bare(encoder_folder: Path, tmp_path: Path) -> Path:
    """The encoder's folder without its weights."""
    folder = tmp_path / "bare"
    shutil.copytree(encoder_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    return folder


def settings(**fields: Any) -> list[str]:
    return [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]


@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
def test_a_plan_counts_what_the_run_does(
    recipe_file: Path, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = settings(**FEW, augmentation="{method: aeda}", output=tmp_path / "run")
    assert main([str(recipe_file), *fields, "--encoder", str(bare), "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not (tmp_path / "run").exists()
    overrides = {**FEW, "augmentation": "{method: aeda}", "output": str(tmp_path / "run")}
    trainer = prepare(Recipe.read(recipe_file, overrides))
    batches = [batch["input_ids"] for batch in trainer.get_train_dataloader()]
    assert planned["tokens"] == 2 * sum(ids.numel() for ids in batches)
    assert planned["rows"] == sum(len(ids) for ids in batches) > 90
    assert planned["parameters"] == sum(parameter.numel() for parameter in trainer.model.parameters())
    fit(trainer)
    assert planned["steps"] == trainer.state.global_step
    # weights, gradients and Adam's two moments in float32
    assert planned["memory_gb"] >= round(16 * planned["parameters"] / 1e9, 2)
    assert planned["minutes"] >= 0


def test_the_plan_of_an_ensemble_is_that_of_its_members(
    recipe_file: Path, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recipe_file), "--encoder", str(bare), "--folds", "2", "--dry-run"]
    assert members([*arguments, *settings(**FEW, output=tmp_path / "run")]) == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    runs = planned["members"]
    assert [Path(folder).name for folder in runs] == ["fold-1", "fold-2"]
    assert planned["steps"] == sum(run["steps"] for run in runs.values()) == 2 * 6
    assert not (tmp_path / "run").exists()


def test_an_encoder_without_a_config_is_one_plain_line(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(recipe_file), "--encoder", str(tmp_path / "empty"), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training.train: encoder: ")


@pytest.mark.parametrize(
    ("name", "changes"),
    [("member", {}), ("competition", {}), ("competition", {"markers": "recipes/large/query.yaml"})],
    ids=["member", "competition", "query"],
)
def test_the_large_recipes_are_planned_from_an_encoders_config_and_tokenizer(
    rows_file: Path,
    bare: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    changes: dict[str, str],
) -> None:
    """As the documents print it. Only the rows and the encoder are small."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KLUE_RE_DATA", str(tmp_path))
    monkeypatch.setenv("KORE_ENCODER", "klue/roberta-large")
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").symlink_to(rows_file)
    command = [f"recipes/large/{name}.yaml", "--dry-run", "--encoder", str(bare), *settings(**changes)]
    assert members(command) == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    (member,) = planned["members"].values()
    assert member["steps"] == planned["steps"] > 0
    assert not (ROOT / "runs" / "large" / f"{name}-ensemble").exists()


def test_the_recipe_for_16_gb_trains_the_same_rows_a_step() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KLUE_RE_DATA", "a-folder")
        large, small = (
            Recipe.read(ROOT / f"recipes/large/{name}.yaml") for name in ("member", "member-16gb")
        )
    assert small.fp16
    assert small.batch_size * small.gradient_accumulation == large.batch_size * large.gradient_accumulation
    own = {"output", "fp16", "batch_size", "gradient_accumulation"}
    assert small.model_dump(exclude=own) == large.model_dump(exclude=own)
