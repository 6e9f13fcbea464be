"""The README keeps to the code: its settings, its commands, its files."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_ablation import InProcess

from api.settings import Settings
from training.run.recipe import ContextualRecipe, PretrainingRecipe, Recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_lists_every_setting_with_its_sentence() -> None:
    listed = dict(re.findall(r"^\| `KORE_([A-Z_]+)` \| [^|]+ \| (.+) \|$", README, re.MULTILINE))
    assert listed == {name.upper(): field.description for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize(
    "name",
    ["port", "device", "max_examples", "max_queue", "max_body_bytes", "max_wait_ms", "request_timeout_s"],
)
def test_the_table_gives_the_defaults(name: str) -> None:
    assert f"| `KORE_{name.upper()}` | `{Settings.model_fields[name].default}` |" in README


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_every_file_it_links_to_exists() -> None:
    assert [link for link in re.findall(r"\]\(([^)#:]+)\)", README) if not (ROOT / link).exists()] == []


def test_the_way_through_the_training_room_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = next(block for block in README.split("```") if "training.tiny_encoder" in block)
    commands = [line for line in block.splitlines() if line.startswith("python -m ")]
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.study.subprocess", SimpleNamespace(Popen=InProcess))
    for command in commands:
        _, _, module, *arguments = shlex.split(command, comments=True)
        main = import_module("export.__main__" if module == "export" else module).main
        assert main(arguments) in (0, None), command
    assert (tmp_path / "runs" / "tiny" / "bundle" / "manifest.json").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_recipe_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    monkeypatch.setenv("KLUE_RE_DATA", "a-folder")
    if path.name != "study.yaml":  # tests/test_ablation.py
        {"pretrain.yaml": PretrainingRecipe, "contextual.yaml": ContextualRecipe}.get(path.name, Recipe).read(
            path
        )
