"""A tiny ensemble, made for real and offline, once a session: tokenizer, encoder, two trained members,
exported bundle, server."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from loadtest.sentences import Row, make_rows
from loadtest.server import running

# Tiny matrices gain nothing from threads, and lose much to their barriers when another process holds a core.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_BUNDLE = ROOT / "bundles" / "default"


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
    from training.tiny_encoder import write_encoder

    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder, [str(row["sentence"]) for row in rows])
    return folder


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
def checkpoints(recipe_file: Path) -> list[Path]:
    """Two members trained by the project's own command: all layers, and half of them."""
    from training.train import main

    folders = [recipe_file.parent / "full", recipe_file.parent / "half"]
    for folder, override in zip(folders, ["seed=1", "layers=1"], strict=True):
        assert main([str(recipe_file), "--set", f"output={folder}", "--set", override]) == 0
    return folders


@pytest.fixture(scope="session")
def tiny_bundle(checkpoints: list[Path], rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.__main__ import main

    output = tmp_path_factory.mktemp("bundles") / "tiny"
    arguments = [
        *map(str, checkpoints),
        "--output",
        str(output),
        "--data",
        str(rows_file),
        "--precision",
        "int8,fp32",
    ]
    assert main([*arguments, "--weights", "2,1"]) == 0
    return output


@contextmanager
def serve(bundle: Path, **settings: object) -> Iterator[httpx.Client]:
    """A client of a server that is ready, and that must exit with 0 when it is told to leave."""
    with running(bundle, **settings) as server:
        yield server.client
        assert server.stop() == 0


@pytest.fixture(scope="session")
def client(tiny_bundle: Path) -> Iterator[httpx.Client]:
    """A client of a server of the tiny bundle with the settings as they come."""
    with serve(tiny_bundle) as connected:
        yield connected
