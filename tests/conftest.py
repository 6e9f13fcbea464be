"""A tiny ensemble, made for real, offline and once for a run of the tests: tokenizer, encoder, two trained
members, exported bundle, server. Tests copy a folder before they change it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from filelock import FileLock
from servers import serve

from engine.settings import EngineSettings
from engine.split import Split
from engine.tuning import TunedEnsemble, tune
from loadtest.sentences import Row, make_rows
from models.bundle import Bundle

# Tiny matrices gain nothing from threads, and lose much to their barriers when another process holds a core.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_BUNDLE = ROOT / "bundles" / "default"


def made_once(name: str, make: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all worker processes of this run share. The first worker that needs it makes it, and the
    others wait until it is done."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return make_rows()


@pytest.fixture(scope="session")
def rows_file(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoder_folder(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder as users have them: an ordinary checkpoint folder, only tiny and with random
    weights."""

    def make(folder: Path) -> None:
        from training.model.tiny_encoder import write_encoder

        write_encoder(folder, [str(row["sentence"]) for row in rows])

    return made_once("encoder", make, tmp_path_factory)


@pytest.fixture(scope="session")
def recipe_file(encoder_folder: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    fields = {
        "encoder": str(encoder_folder),
        "train": str(rows_file),
        "validation": str(rows_file),
        "output": str(folder / "member"),
        "epochs": 8,
        "learning_rate": 5e-3,
        "head_learning_rate": 1e-2,
        "save_steps": 1000,
        "evaluate": "end",
        "bf16": False,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(fields), encoding="utf-8")  # JSON is YAML
    return path


@pytest.fixture(scope="session")
def checkpoints(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two members trained by the project's own command: all layers, and half of them."""
    overrides = {"full": "seed=1", "half": "layers=1"}

    def make(folder: Path) -> None:
        from training.train import main

        for name, override in overrides.items():
            assert main([str(recipe_file), "--set", f"output={folder / name}", "--set", override]) == 0

    folder = made_once("checkpoints", make, tmp_path_factory)
    return [folder / name for name in overrides]


@pytest.fixture(scope="session")
def tiny_bundle(checkpoints: list[Path], rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both members in one bundle, in int8 and fp32. The member with all layers has twice the weight."""

    def make(folder: Path) -> None:
        from export.__main__ import main

        members = [str(path) for path in checkpoints]
        options = ["--data", str(rows_file), "--precision", "int8,fp32", "--weights", "2,1"]
        assert main([*members, "--output", str(folder), *options]) == 0

    return made_once("tiny", make, tmp_path_factory)


@pytest.fixture(scope="session")
def client(tiny_bundle: Path) -> Iterator[httpx.Client]:
    """A client of a server that serves the tiny bundle with the default settings."""
    with serve(tiny_bundle, tuning_s=EngineSettings().tuning_s) as connected:
        yield connected


@pytest.fixture(scope="session")
def tuned(tiny_bundle: Path) -> TunedEnsemble:
    """The tiny bundle on two lanes."""
    return tune(Bundle.open(tiny_bundle), "cpu", [Split(2, 1)], alone=None, tuning_s=0)


@pytest.fixture
def engine(tuned: TunedEnsemble, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring runs the tiny bundle by default, which is loaded once for all tests."""
    monkeypatch.setenv("KORE_BUNDLE", str(tiny_bundle))
    monkeypatch.setattr("scoring.run.load", lambda *_: tuned)
