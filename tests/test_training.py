"""The training room: a member comes out of a recipe, the same one after an interruption, and wrong recipes get one plain line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.encoding import Encoder
from models.rows import read_labelled
from training.dataset import LengthBucketSampler, RelationDataset
from training.recipe import InvalidRecipe, Recipe
from training.train import last_checkpoint, main
from training.trainer import RelationTrainer


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder.from_file(encoder_folder / "tokenizer.json", "typed_punctuation", 128, pad_token_id=1)


@pytest.fixture
def dataset(rows_file: Path, encoder: Encoder) -> RelationDataset:
    return RelationDataset(read_labelled(rows_file), encoder, seed=3, type_dropout=0.3)


def test_a_recipe_makes_a_member_that_says_how_good_it_is(checkpoints: list[Path]) -> None:
    for folder, layers in zip(checkpoints, (2, 1), strict=True):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert (config["num_hidden_layers"], config["pooling"], config["markers"]) == (layers, "entity_start", "typed_punctuation")
        assert config["window"] == 128, "the encoder's positions bound the window"
        assert (folder / "tokenizer.json").is_file()
        assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["micro_f1"] > 90


@pytest.mark.filterwarnings("ignore:mtime may not be reliable")  # the Trainer's, of checkpoints within a second of each other
def test_an_interrupted_run_resumes_to_the_same_weights(recipe_file: Path, tmp_path: Path) -> None:
    """A run that stops behind its first checkpoint, in the middle of an epoch, ends where the uninterrupted one ends."""
    short = ["--set", "epochs=2", "--set", "train_rows=320", "--set", "save_steps=7"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert main([str(recipe_file), *short, "--set", f"output={whole}"]) == 0

    class Interrupted(Exception): ...

    with pytest.MonkeyPatch.context() as patched:
        save = RelationTrainer._save_checkpoint

        def save_once(self: RelationTrainer, *arguments: object) -> None:
            save(self, *arguments)
            raise Interrupted

        patched.setattr(RelationTrainer, "_save_checkpoint", save_once)
        with pytest.raises(Interrupted):
            main([str(recipe_file), *short, "--set", f"output={resumed}"])
    (resumed / "checkpoints" / "checkpoint-14").mkdir()  # as a kill leaves it that comes while the next one is written
    assert last_checkpoint(resumed / "checkpoints") == str(resumed / "checkpoints" / "checkpoint-7")
    assert main([str(recipe_file), *short, "--set", f"output={resumed}"]) == 0
    expected, got = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_type_dropout_hides_types_anew_each_epoch_and_repeats_for_the_same_seed(dataset: RelationDataset) -> None:
    def shown(epoch: int) -> list[int]:
        dataset.epoch = epoch
        return [len(dataset[index][0]) for index in range(100)]

    first, second = shown(0), shown(1)
    full = [len(dataset.encoder.encode(row.example)) for row in dataset.rows[:100]]
    dropped = np.mean([seen < all_types for seen, all_types in zip(first, full, strict=True)])
    assert 0.3 < dropped < 0.7, "either entity loses its type with probability 0.3"
    assert first != second
    assert shown(0) == first


def test_every_row_is_shown_once_an_epoch_in_batches_of_like_length(dataset: RelationDataset) -> None:
    sampler = LengthBucketSampler(dataset, batch_size=16, seed=5)
    sampler.set_epoch(0)
    order = list(sampler)
    assert sorted(order) == list(range(len(dataset)))
    spread = np.mean([np.ptp(sampler.lengths[order[low : low + 16]]) for low in range(0, len(order), 16)])
    assert spread < np.ptp(sampler.lengths) / 3
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pooling=magic"], "pooling"),
        (["learning_rate=-1"], "learning_rate"),
        (["colour=red"], "colour"),
        (["markers=runes"], "markers"),
        (["train=$NO_SUCH_VARIABLE/train.jsonl"], "NO_SUCH_VARIABLE"),
        (["train=nothing.jsonl"], "nothing.jsonl"),
        (["encoder=./no-such-encoder"], "no-such-encoder"),
    ],
)
def test_a_wrong_recipe_gets_one_plain_line(
    recipe_file: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert main([str(recipe_file), *(part for override in overrides for part in ("--set", override))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_recipe_that_is_no_file_or_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"nothing\.yaml"):
        Recipe.read(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InvalidRecipe, match="a mapping"):
        Recipe.read(tmp_path / "list.yaml")


def test_the_shipped_recipes_are_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    monkeypatch.setenv("KLUE_RE_DATA", "a-folder")
    recipes = sorted((Path(__file__).parents[1] / "recipes" / "default").glob("*.yaml"))
    assert [Recipe.read(path).layers for path in recipes] == [None, 6]


def test_a_bad_row_in_the_training_file_is_named(
    recipe_file: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copy(rows_file, tmp_path / "broken.jsonl"))
    broken.write_text(broken.read_text(encoding="utf-8").replace('"per:title"', '"per:tiger"', 1), encoding="utf-8")
    assert main([str(recipe_file), "--set", f"train={broken}"]) == 2
    assert "broken.jsonl, line" in capsys.readouterr().err
