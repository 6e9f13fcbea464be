"""Folds, seeds and weights: no sentence on both sides, the same members after a kill, and the better recipe
weighs more."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

import export.ensemble
from export import checkpoint
from export.__main__ import main as export_door
from export.command import ExportParser
from export.errors import InvalidOptions
from export.options import ExportOptions, parse
from export.parity import answer
from loadtest.sentences import Row
from models.example import Entity, Example
from models.metrics import micro_f1
from models.rows import InvalidRows, LabelledExample, read_labelled, sentence, sentence_halves
from models.voting import cross_fitted, weighted_mean_probability
from training.augmentation.variants import Variant
from training.data.folds import Fold, apart, parts
from training.ensemble import members as members_door
from training.ensemble.members import out_of_fold
from training.errors import InvalidRecipe
from training.members import main
from training.run import training as train_door
from training.run.recipe import Recipe
from training.run.trainer import RelationTrainer

# the Trainer's, of checkpoints within a second of each other
pytestmark = pytest.mark.filterwarnings("ignore:mtime may not be reliable")

FOLDS = 2


def row(text: str, label_id: int = 0) -> LabelledExample:
    return LabelledExample(
        Example(text, Entity(text[0], 0, 0), Entity(text[-1], len(text) - 1, len(text) - 1)), label_id
    )


@pytest.mark.parametrize("seed", range(50))
def test_parts_never_share_a_sentence_and_every_row_is_in_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    different, of = int(generator.integers(5, 60)), int(generator.integers(2, 6))
    # From nearly all rows different to a few sentences asked again and again, composed or not, with space
    # around or without.
    chosen = generator.choice(
        different,
        int(generator.integers(different, 5 * different)),
        p=generator.dirichlet(np.full(different, 0.3)),
    )
    spellings = (
        str,
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: f" {text}",
        lambda text: f"{text}\n",
    )
    rows = [
        row(spellings[generator.integers(4)](f"나무 {number}그루")) for number in [*range(different), *chosen]
    ]
    part_of = parts(rows, of)
    of_sentence: dict[str, set[int]] = {}
    for one, part in zip(rows, part_of, strict=True):
        of_sentence.setdefault(sentence(one), set()).add(int(part))
    assert all(len(its) == 1 for its in of_sentence.values())
    sizes = np.bincount([its.pop() for its in of_sentence.values()], minlength=of + 1)[1:]
    assert len(sizes) == of
    assert sizes.min() >= 1
    held_out = [Fold(of=of, number=number).held_out(rows) for number in range(1, of + 1)]
    assert sum(map(len, held_out)) == len(rows)
    for its in held_out:
        rest = apart(rows, its)
        assert len(rest) + len(its) == len(rows)
        assert not {sentence(one) for one in rest} & {sentence(one) for one in its}


def test_each_part_has_its_share_of_every_label() -> None:
    """Of label n there are 5 (n + 1) rows. Every seventh sentence has two rows of one label."""
    rows = [
        row(f"나무 {label}·{number}그루", label) for label in range(6) for number in range(5 * (label + 1))
    ]
    rows += rows[::7]
    part_of, labels = parts(rows, 5), np.array([one.label_id for one in rows])
    for label in range(6):
        counts = np.bincount(part_of[labels == label], minlength=6)[1:]
        assert np.ptp(counts) <= 1, (label, counts)


def test_parts_depend_on_sentences_and_labels_alone() -> None:
    rows = [row(f"나무 {number}그루", number % 3) for number in range(40)]
    order = np.random.default_rng(0).permutation(40)
    assert parts([rows[index] for index in order], 4).tolist() == parts(rows, 4)[order].tolist()


def test_too_few_sentences_and_a_part_that_is_not_there_are_refused() -> None:
    with pytest.raises(InvalidRows, match="1 different sentences cannot be split into 2 parts"):
        parts([row("나무 한 그루"), row("나무 한 그루 ")], 2)
    with pytest.raises(InvalidRows, match="no label has 3 rows"):
        parts([row(f"나무 {number}그루", number) for number in range(5)], 3)
    with pytest.raises(ValueError, match="one of the 3 parts is required, not 4"):
        Fold(of=3, number=4)


def test_rows_are_answered_by_the_members_that_they_were_held_out_from() -> None:
    fold_of = np.array([1, 2, 1])
    one, two = np.eye(30)[[3, 4]], np.eye(30)[[5]]
    assert out_of_fold(fold_of, [1, 2], [one, two]).argmax(axis=1).tolist() == [3, 5, 4]
    of_two_seeds = out_of_fold(fold_of, [1, 2, 1, 2], [one, two, one[::-1], two])
    assert of_two_seeds[0, 3:5].tolist() == [0.5, 0.5]
    assert of_two_seeds.sum(axis=1).tolist() == [1, 1, 1]


def test_cross_fitted_weights_never_see_the_rows_they_are_tried_on() -> None:
    """Of two members each knows one half only: weights fitted on a half are the worst for the other."""
    rows = [row(f"나무 {number}그루", number % 30) for number in range(60)]
    half_of, labels = sentence_halves(rows), np.arange(60) % 30
    right, wrong = np.eye(30)[labels] * 0.9 + 0.1 / 30, np.eye(30)[(labels + 1) % 30] * 0.9 + 0.1 / 30
    knowing = np.stack([np.where((half_of == half)[:, None], right, wrong) for half in (True, False)])
    assert micro_f1(labels, weighted_mean_probability(knowing, np.array([0.5, 0.5])).argmax(axis=1)) > 0
    assert micro_f1(labels, cross_fitted(knowing, labels, half_of).argmax(axis=1)) == 0


@pytest.fixture(scope="module")
def train_file(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every third is asked the other way round too."""
    reverse = [
        {
            **row,
            "subject_entity": row["object_entity"],
            "object_entity": row["subject_entity"],
            "label": "no_relation",
        }
        for row in rows[::3]
    ]
    path = tmp_path_factory.mktemp("train") / "train.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, *reverse]), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def recipe_files(recipe_file: Path, train_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A recipe that learns and one that hardly does."""
    folder = tmp_path_factory.mktemp("members")
    fields = json.loads(recipe_file.read_text(encoding="utf-8")) | {
        "train": str(train_file),
        "epochs": 3,
        "save_steps": 8,
    }
    slow = {"learning_rate": 1e-7, "head_learning_rate": 1e-5, "epochs": 0.2}
    for name, changes in (("good", {}), ("poor", slow)):
        text = json.dumps(fields | {"output": str(folder / name)} | changes)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return [folder / "good.yaml", folder / "poor.yaml"]


@pytest.fixture(scope="module")
def trained(recipe_files: list[Path]) -> Iterator[dict[str, set[str]]]:
    """The sentences that each member of an uninterrupted run was trained on, by its folder."""
    sentences: dict[str, set[str]] = {}
    start = RelationTrainer.train

    def record(self: RelationTrainer, *arguments: Any, **options: Any) -> Any:
        sentences[str(self.recipe.output)] = {sentence(row) for row in self.train_dataset.rows}
        return start(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RelationTrainer, "train", record)
        output = ["--output", str(recipe_files[0].parent)]
        assert main([*map(str, recipe_files), "--folds", str(FOLDS), *output]) == 0
    return sentences


@pytest.mark.slow
def test_out_of_fold_rows_are_answered_by_a_member_that_never_saw_their_sentence(
    trained: dict[str, set[str]], recipe_files: list[Path], train_file: Path
) -> None:
    rows = read_labelled(train_file)
    for folder in (path.with_suffix("") for path in recipe_files):
        with np.load(folder / "out_of_fold.npz", allow_pickle=False) as file:
            kept = dict(file)
        assert kept["probabilities"].shape == (len(rows), 30)
        assert kept["probabilities"].dtype == np.float32
        assert kept["row"].tolist() == list(range(len(rows)))
        assert kept["label_ids"].tolist() == [row.label_id for row in rows]
        for number in range(1, FOLDS + 1):
            its = [rows[index] for index in np.flatnonzero(kept["fold"] == number)]
            seen = trained[str(folder / f"fold-{number}")]
            assert not {sentence(row) for row in its} & seen
            assert {sentence(row) for row in its} | seen == {sentence(row) for row in rows}
            member = checkpoint.load(folder / f"fold-{number}")
            expected = answer(
                member.logits, [member.encoder.encode(row.example) for row in its], 1, "held out"
            )
            assert np.abs(kept["probabilities"][kept["fold"] == number] - expected).max() < 1e-4


@pytest.mark.slow
def test_the_better_recipe_weighs_more_and_members_of_one_recipe_the_same(
    trained: dict[str, set[str]], recipe_files: list[Path], rows: list[Row]
) -> None:
    good, poor = (path.with_suffix("") for path in recipe_files)
    ensemble = json.loads((good.parent / "ensemble.json").read_bytes())
    folders = [str(recipe / f"fold-{number}") for recipe in (good, poor) for number in range(1, FOLDS + 1)]
    assert [member["folder"] for member in ensemble["members"]] == folders
    weights = np.array([member["weight"] for member in ensemble["members"]]).reshape(2, FOLDS)
    assert np.ptp(weights, axis=1).max() == 0
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    assert weights[0].sum() > 0.9
    assert ensemble["weights_fitted_on"] == "out_of_fold"
    each = ensemble["out_of_fold"]["each"]
    assert each[0]["micro_f1"] > each[1]["micro_f1"] + 20
    with np.load(good.parent / "validation.npz", allow_pickle=False) as file:
        assert file["probabilities"].shape == (2 * FOLDS, len(rows), 30)
        vote = weighted_mean_probability(file["probabilities"].astype(np.float64), weights.ravel())
        assert micro_f1(file["label_ids"], vote.argmax(axis=1)) == pytest.approx(
            ensemble["validation"]["vote"]["micro_f1"], abs=0.2
        )


@pytest.mark.slow
def test_members_of_another_rule_for_folds_are_refused(
    trained: dict[str, set[str]], recipe_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a run of an older commit: its record has no rule, and its parts are others."""
    shutil.copytree(recipe_files[0].with_suffix(""), tmp_path / "old")
    record = tmp_path / "old" / "fold-1" / "run.json"
    run = json.loads(record.read_bytes())
    assert run.pop("fold_rule") == "stratified by label"
    record.write_text(json.dumps(run))
    assert main([str(recipe_files[0]), "--folds", "2", "--set", "output=old", "--output", str(tmp_path)]) == 2
    assert "was begun with another fold_rule" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from training.members import main
from training.run.trainer import RelationTrainer
save = RelationTrainer._save_checkpoint
def save_and_die(self, *arguments):
    save(self, *arguments)
    if self.recipe.output.name == "fold-2" and self.state.global_step == 16:
        os.kill(os.getpid(), signal.SIGKILL)
RelationTrainer._save_checkpoint = save_and_die
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_fold_the_same_command_ends_with_the_same_weights(
    trained: dict[str, set[str]], recipe_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [str(recipe_files[0]), "--folds", str(FOLDS), "--set", "output=killed"]
    command += ["--output", str(tmp_path)]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, *command], cwd=ROOT, capture_output=True, timeout=240
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    assert [path.name for path in (tmp_path / "killed" / "fold-2" / "checkpoints").iterdir()] == [
        "checkpoint-16"
    ]
    begun = []
    train = members_door.train
    monkeypatch.setattr(
        members_door, "train", lambda recipe: (begun.append(recipe.output.name), train(recipe))
    )
    assert main(command) == 0
    assert begun == ["fold-2"], "what was finished is not trained again"
    whole = recipe_files[0].with_suffix("")
    for number in range(1, FOLDS + 1):
        expected, got = (
            load_file(folder / f"fold-{number}" / "model.safetensors")
            for folder in (whole, tmp_path / "killed")
        )
        assert all(torch.equal(expected[name], got[name]) for name in expected)
    with (
        np.load(whole / "out_of_fold.npz") as expected,
        np.load(tmp_path / "killed" / "out_of_fold.npz") as got,
    ):
        assert all(np.array_equal(expected[name], got[name]) for name in expected.files)
    assert not list((tmp_path / "killed").glob("*/checkpoints")), "a finished member needs none"


@pytest.mark.slow
def test_seeds_make_members_whose_weights_are_cross_fitted(
    recipe_files: list[Path],
    rows: list[Row],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = [
        str(recipe_files[0]),
        "--seeds",
        "1,2",
        "--set",
        f"output={tmp_path / 'seeds'}",
        "--set",
        "epochs=1",
    ]
    assert main([*command, "--set", "encoder=./no-such-encoder"]) == 2, (
        "nothing has begun, so the recipe may still change"
    )
    assert main(command) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out.strip().splitlines()[-1])
    assert summary["members"] == 2
    assert summary["weights_fitted_on"] == "validation"
    assert summary["validation"]["cross_fitted"].keys() == {"micro_f1", "auprc"}
    *_, warning, printed = captured.err.strip().splitlines()
    assert "cross_fitted" in warning
    with np.load(tmp_path / "seeds-ensemble" / "validation.npz", allow_pickle=False) as file:
        assert file["probabilities"].shape == (2, len(rows), 30)
        assert not np.array_equal(*file["probabilities"])

    asked: list[ExportOptions] = []

    def stop(options: ExportOptions) -> None:
        asked.append(options)
        raise InvalidOptions("enough")

    monkeypatch.setattr(export.ensemble, "export_ensemble", stop)
    python, flag, module, *arguments = shlex.split(printed)
    assert (python, flag, module) == ("python", "-m", "export")
    assert export_door(arguments) == 2
    (options,) = asked
    ensemble = json.loads((tmp_path / "seeds-ensemble" / "ensemble.json").read_bytes())
    assert [str(folder) for folder in options.checkpoints] == [
        member["folder"] for member in ensemble["members"]
    ]
    assert options.weights == pytest.approx([member["weight"] for member in ensemble["members"]], rel=1e-4)
    assert options.output == Path("bundles/seeds-ensemble")
    assert options.data.is_file()

    assert main([*command, "--set", "epochs=3"]) == 2, "going on with another recipe"
    assert "begun with another epochs" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list((tmp_path / "seeds").rglob("*.partial")), "what is there was written to its end"


@pytest.mark.slow
def test_folds_and_seeds_together_make_a_member_for_each_pair(recipe_files: list[Path]) -> None:
    recipe = Recipe.read(recipe_files[0])
    made = members_door.members(recipe, 2, [5, 6])
    assert [member.output.name for member in made] == [
        "fold-1-seed-5",
        "fold-2-seed-5",
        "fold-1-seed-6",
        "fold-2-seed-6",
    ]
    assert [(member.fold, member.seed) for member in made] == [
        (Fold(of=2, number=n), seed) for seed in (5, 6) for n in (1, 2)
    ]


def test_a_weight_near_zero_is_still_one_that_export_takes() -> None:
    ensemble = {"members": [{"folder": "a b", "weight": 1 - 2e-7}, {"folder": "c", "weight": 2e-7}]}
    printed = members_door.export_command(ensemble, Path("bundles/x"), Path("rows.jsonl"))
    words = shlex.split(printed)
    assert words[3:7] == ["a b", "c", "--weights", "1,2e-07"]
    parser = ExportParser("export", "")
    assert parse(parser, words[3:]).weights == (1, 2e-7)


@pytest.mark.slow
def test_augmentation_brings_no_held_out_sentence_back(recipe_files: list[Path], tmp_path: Path) -> None:
    recipe = Recipe.read(
        recipe_files[0],
        {"augmentation": "{method: eda}", "fold": "{of: 3, number: 1}", "output": str(tmp_path)},
    )
    assert recipe.fold is not None
    held_out = recipe.fold.held_out(read_labelled(recipe.train))
    new, too_long = row("어디에도 없던 말"), row(f"너무{' 먼' * 200} 말")
    seen = []

    class Stop(Exception): ...

    def stop(self: RelationTrainer, *arguments: Any, **options: Any) -> None:
        seen.extend(self.train_dataset.rows)
        raise Stop

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            train_door,
            "variants",
            lambda *arguments: iter(
                [Variant(held_out[0], 0, 1), Variant(too_long, 0, 2), Variant(new, 0, 3)]
            ),
        )
        patched.setattr(RelationTrainer, "train", stop)
        with pytest.raises(Stop):
            train_door.train(recipe)
    assert seen == [*recipe.training_rows(), new]
    assert not {sentence(row) for row in seen} & {sentence(row) for row in held_out}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "1"], "from 2 on"),
        (["--seeds", "1,1"], "different whole numbers"),
        (["--seeds", "1,x"], "different whole numbers"),
    ],
)
def test_wrong_options_are_refused(
    recipe_files: list[Path], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(recipe_files[0]), *options])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("output=one-folder", "output: every recipe"),
        ("train=nothing.jsonl", "nothing.jsonl: No such file"),
        ("fold={of: 2}", "fold.number"),
    ],
)
def test_recipes_that_cannot_be_voted_get_one_plain_line(
    recipe_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    copies = []
    for path in recipe_files:
        fields = json.loads(path.read_text(encoding="utf-8")) | {"output": str(tmp_path / path.stem)}
        copies.append(tmp_path / path.name)
        copies[-1].write_text(json.dumps(fields), encoding="utf-8")
    assert main([*map(str, copies), "--folds", "2", "--set", override]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_recipes_of_different_rows_cannot_be_voted(recipe_files: list[Path], tmp_path: Path) -> None:
    recipes = [Recipe.read(path) for path in recipe_files]
    with pytest.raises(InvalidRecipe, match="seed: "):
        members_door.make_ensemble(recipes, None, [1, 2**32], tmp_path)
    recipes[1] = recipes[1].model_copy(update={"train": Path("other")})
    with pytest.raises(InvalidRecipe, match="the same rows"):
        members_door.make_ensemble(recipes, 2, [], tmp_path)
