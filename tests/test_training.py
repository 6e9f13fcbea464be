"""The training room: a member comes out of a recipe, the same one after an interruption, and wrong recipes
get one plain line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from pydantic import BaseModel
from safetensors.torch import load_file
from scoring_files import as_csv

from loadtest.sentences import Row
from models.encoding import Encoder
from models.example import Example
from models.markers import MARKER_STYLES
from models.rows import read_labelled
from training.augment import main as augment
from training.augmentation.methods import METHODS
from training.data.dataset import LengthBucketSampler, RelationDataset
from training.data.folds import Fold
from training.errors import InvalidRecipe
from training.experiments.study import Study
from training.run.recipe import ContextualRecipe, PretrainingRecipe, Recipe
from training.run.record import last_checkpoint
from training.run.trainer import RelationTrainer
from training.run.training import prepare
from training.train import main
from training.trials.space import SearchSpace


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder.from_file(encoder_folder / "tokenizer.json", "typed_punctuation", 128, pad_token_id=1)


@pytest.fixture
def dataset(rows_file: Path, encoder: Encoder) -> RelationDataset:
    return RelationDataset(read_labelled(rows_file), encoder, seed=3, type_dropout=0.3)


def test_a_recipe_makes_a_member_that_says_how_good_it_is(checkpoints: list[Path]) -> None:
    for folder, layers in zip(checkpoints, (2, 1), strict=True):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert (config["num_hidden_layers"], config["pooling"], config["markers"]) == (
            layers,
            "entity_start",
            "typed_punctuation",
        )
        assert config["window"] == 128, "the encoder's positions bound the window"
        assert (folder / "tokenizer.json").is_file()
        assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["micro_f1"] > 90


def test_rows_with_two_labels_are_recorded_and_said_once(
    recipe_file: Path, rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows are a CSV file, as the competition has them: training reads what scoring reads."""
    doubtful = [rows[0], rows[1], rows[1], {**rows[0], "label": "per:religion"}]
    (tmp_path / "train.csv").write_bytes(b"\xef\xbb\xbf" + as_csv(doubtful))
    settings = [f"output={tmp_path / 'run'}", f"train={tmp_path / 'train.csv'}", "epochs=1"]
    assert main([str(recipe_file), *(word for each in settings for word in ("--set", each))]) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert (run["two_labels"], run["rows"], run["data"]["train"]["rows"]) == (2, 4, 4)
    assert capsys.readouterr().err.count("2 training rows have the sentence and the entities of another") == 1
    recipe = Recipe.read(recipe_file, {"train": str(tmp_path / "train.csv"), "drop_two_labels": "true"})
    assert [row.example for row in recipe.training_rows()] == [Example.from_row(rows[1])] * 2


# the Trainer's, of checkpoints within a second of each other
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
def test_an_interrupted_run_resumes_to_the_same_weights(recipe_file: Path, tmp_path: Path) -> None:
    """A run that stops behind its first checkpoint, in the middle of an epoch, ends where the uninterrupted
    one ends."""
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
    # as a kill leaves it that comes while the next one is written
    (resumed / "checkpoints" / "checkpoint-14").mkdir()
    assert last_checkpoint(resumed) == str(resumed / "checkpoints" / "checkpoint-7")
    assert main([str(recipe_file), *short, "--set", f"output={resumed}", "--set", "seed=3"]) == 2, (
        "weights of two recipes do not mix"
    )
    assert main([str(recipe_file), *short, "--set", f"output={resumed}"]) == 0
    expected, got = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_run_that_diverges_leaves_no_metrics(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = [f"output={tmp_path}", "learning_rate=1e30", "epochs=1", "train_rows=96"]
    assert main([str(recipe_file), *(part for field in wild for part in ("--set", field))]) == 2
    assert "training.train: learning_rate: training diverged" in capsys.readouterr().err
    assert (tmp_path / "run.json").exists()
    assert not (tmp_path / "metrics.json").exists()


def test_type_dropout_hides_types_anew_each_epoch_and_repeats_for_the_same_seed(
    dataset: RelationDataset,
) -> None:
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
    tokens = np.array([len(dataset.encoder.encode(row.example)) for row in dataset.rows])
    spread = np.mean([np.ptp(tokens[order[low : low + 16]]) for low in range(0, len(order), 16)])
    assert spread <= 2, "fifty batches of sixteen hold all rows, so but for the joints a batch has one length"
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head=magic"], "head"),
        (["head=no_such_file.py:Head"], "no_such_file.py: No such file"),
        (["learning_rate=-1"], "learning_rate"),
        (["learning_rate=.inf"], "learning_rate"),
        (["seed=4294967296"], "seed"),
        (["layers=[1"], "--set layers: while parsing"),
        (["fold={1: 2}"], "fold"),
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
    (tmp_path / "numbers.yaml").write_text("1: 2\n")
    with pytest.raises(InvalidRecipe, match="1: Keys should be strings"):
        Recipe.read(tmp_path / "numbers.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epochs: 2026-13-45", "month must be in 1..12"),
        ("seed: " + "9" * 5000, "Exceeds the limit"),
        ('epochs: !!int ""', "string index out of range|invalid literal"),
        ("augmentation: &a [*a]", "an alias"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", "an alias"),
        ("epochs: " + "[" * 20_000, "nested too deeply"),
        ("? [1, 2]\n: 3", "unhashable"),
        ("encoder: \x00", "special characters"),
        ("epochs: {", "expected"),
    ],
    ids=["date", "digits", "empty integer", "itself", "aliases", "brackets", "key", "control", "open"],
)
def test_hostile_yaml_ends_in_one_plain_line(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "hostile.yaml"
    recipe.write_text(text, encoding="utf-8")
    assert main([str(recipe)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert len(line) < 600
    assert re.search(rf"hostile\.yaml: .*({reason})", line), line


def test_an_override_without_a_value_is_refused(
    recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(recipe_file), "--set", "layers"])
    assert left.value.code == 2
    assert "FIELD=VALUE is required, not 'layers'" in capsys.readouterr().err


def test_the_shipped_recipes_are_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    monkeypatch.setenv("KLUE_RE_DATA", "a-folder")
    recipes = sorted((Path(__file__).parents[1] / "recipes" / "default").glob("member-*.yaml"))
    assert [Recipe.read(path).layers for path in recipes] == [None, 6]


def test_a_bad_row_in_the_training_file_is_named(
    recipe_file: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copy(rows_file, tmp_path / "broken.jsonl"))
    broken.write_text(
        broken.read_text(encoding="utf-8").replace('"per:title"', '"per:tiger"', 1), encoding="utf-8"
    )
    assert main([str(recipe_file), "--set", f"train={broken}"]) == 2
    assert "broken.jsonl, line" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["train", "validation"])
def test_a_row_whose_entities_lie_too_far_apart_is_named(
    recipe_file: Path, rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    sentence = f"누리{' 나무' * 200} 한빛"
    ends = {"subject_entity": {"word": "누리"}, "object_entity": {"word": "한빛"}}
    far = tmp_path / "far.jsonl"
    far.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows[:20], {**rows[0], "sentence": sentence, **ends}])
    )
    assert main([str(recipe_file), "--set", f"{field}={far}", "--set", f"output={tmp_path / 'member'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "far.jsonl, line 21: sentence: the two entities are too far apart" in line


@pytest.mark.slow
@pytest.mark.parametrize("method", ["eda", "aeda", "entity_mask", "entity_swap"])
def test_augmentation_is_a_block_of_a_recipe(
    recipe_file: Path, rows: list[Row], tmp_path: Path, method: str
) -> None:
    spouses = tmp_path / "spouses.jsonl"
    spouses.write_text("".join(json.dumps(row | {"label": "per:spouse"}) + "\n" for row in rows[:30]))
    trainer = prepare(
        Recipe.read(
            recipe_file,
            {"augmentation": f"{{method: {method}}}", "train": str(spouses), "output": str(tmp_path)},
        )
    )
    assert len(trainer.train_dataset) > 30
    assert len(trainer.train_dataset[len(trainer.train_dataset) - 1][0]) > 4


def test_a_placeholder_that_is_no_text_gets_one_plain_line(
    recipe_file: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = 'augmentation={method: entity_mask, placeholder: "\\ud800"}'
    assert main([str(recipe_file), "--set", block, "--set", f"output={tmp_path}"]) == 2
    assert (
        augment([str(rows_file), str(tmp_path / "out"), "--method", "entity_mask", "--placeholder", "\ud800"])
        == 2
    )
    first, second = (line for line in capsys.readouterr().err.splitlines() if line.startswith("training."))
    assert "augmentation: sentence: a lone surrogate is not Unicode text" in first
    assert "sentence: a lone surrogate is not Unicode text" in second
    assert not list(tmp_path.iterdir())


def test_the_tokens_that_mark_entities_begin_unlike_each_other(recipe_file: Path, tmp_path: Path) -> None:
    trainer = prepare(Recipe.read(recipe_file, {"markers": "entity_tokens", "output": str(tmp_path)}))
    tokens = MARKER_STYLES["entity_tokens"].vocabulary
    rows = trainer.model.encoder.get_input_embeddings().weight[
        trainer.processing_class.convert_tokens_to_ids(list(tokens))
    ]
    assert torch.cosine_similarity(rows[:, None], rows[None], dim=-1).fill_diagonal_(0).abs().max() < 0.9


@pytest.mark.parametrize(
    "kind", [Recipe, PretrainingRecipe, ContextualRecipe, Study, SearchSpace, Fold, *METHODS.values()]
)
def test_every_field_is_described_in_a_sentence(kind: type[BaseModel]) -> None:
    for name, field in kind.model_fields.items():
        assert name == "method" or (field.description or "").endswith("."), name


COMMANDS = sorted(path.stem for path in (ROOT / "training").glob("*.py") if "def main(" in path.read_text())

CALL_EACH = """
import sys
from importlib import import_module
heavy = {"torch", "transformers", "optuna", "ray", "matplotlib"}
for command in sys.argv[1].split(","):
    for arguments in sys.argv[2:]:
        try:
            status = import_module(f"training.{command}").main(arguments.split())
        except SystemExit as left:
            status = left.code
        print("STATUS", command, status, *sorted(heavy & set(sys.modules)))
"""


def call_each(commands: list[str], *arguments: str) -> tuple[str, list[str]]:
    """Stdout of commands called in one new process, and for each call its status and what it has loaded."""
    call = [sys.executable, "-c", CALL_EACH, ",".join(commands), *arguments]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.removeprefix("STATUS ") for line in done.stdout.splitlines() if line.startswith("STATUS")]
    return done.stdout, lines


def test_help_and_wrong_arguments_load_nothing_heavy() -> None:
    text, statuses = call_each(COMMANDS, "--help", "--no-such-option")
    assert statuses == [f"{command} {status}" for command in COMMANDS for status in (0, 2)]
    for command in COMMANDS:
        assert f"usage: python -m training.{command} " in text
        assert f"\n    python -m training.{command} " in text, "an example"


def test_an_unreadable_recipe_is_refused_before_pytorch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("epochs: [")
    commands = ["contextual", "pretrain", "search", "train"]
    _, statuses = call_each(commands, str(tmp_path / "recipe.yaml"))
    assert statuses == [f"{command} 2" for command in commands]
