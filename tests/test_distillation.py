"""Distillation: the loss by hand and against numerical gradients, stored answers that fit their rows only,
and a student that learns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.labels import RELATIONS
from models.rows import read_labelled
from models.voting import softmax
from training.ensemble.teachers import load, save
from training.errors import InvalidTeachers
from training.model.losses import CrossEntropy, Distillation, FocalLoss
from training.model.member import TrainedMember
from training.run.recipe import Recipe
from training.teach import main
from training.train import main as train

# Two classes with logits 0 and ln 9: p = (1/10, 9/10); at T = 2 their square roots count, so (1/4, 3/4).
TENTHS = torch.tensor([[0.0, np.log(9.0)]], dtype=torch.float64)


def test_distillation_by_hand() -> None:
    # KL((1/2, 1/2) || (1/4, 3/4)) = 1/2 ln 2 + 1/2 ln 2/3 = 0.1438410362; the label's loss is -ln 9/10 =
    # 0.1053605157. 0.7 · 0.1053605157 + 0.3 · 2^2 · 0.1438410362
    loss = Distillation(CrossEntropy(), weight=0.3, temperature=2.0)
    teacher = torch.tensor([[0.5, 0.5]])
    assert loss(TENTHS, torch.tensor([1]), teacher).item() == pytest.approx(0.2463616044)
    # Two rows: the mean of both.
    both = loss(TENTHS.repeat(2, 1), torch.tensor([1, 1]), teacher.repeat(2, 1))
    assert both.item() == pytest.approx(0.2463616044)


def test_a_student_that_says_what_its_teacher_says_loses_nothing() -> None:
    logits = torch.randn(8, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for temperature in (0.5, 1.0, 4.0):
        loss = Distillation(CrossEntropy(), weight=1.0, temperature=temperature)
        assert loss(logits, torch.zeros(8, dtype=torch.long), logits.softmax(dim=1)).item() == pytest.approx(
            0, abs=1e-12
        )


def test_at_temperature_1_a_label_as_teacher_is_the_label() -> None:
    logits, labels = torch.randn(8, 30, generator=torch.Generator().manual_seed(2)), torch.arange(8)
    loss = Distillation(CrossEntropy(), weight=0.4, temperature=1.0)
    torch.testing.assert_close(loss(logits, labels, torch.eye(30)[labels]), cross_entropy(logits, labels))


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_its_gradients_are_the_numerical_ones(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(3, 6, dtype=torch.float64, generator=generator).softmax(dim=1)
    loss = Distillation(FocalLoss(2.0), weight=0.6, temperature=temperature)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, torch.tensor([0, 5, 2]), teacher), (logits,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_certain_teachers_and_extreme_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[6e4, -6e4, 0], [-6e4, 6e4, 0]], dtype=dtype, requires_grad=True)
    value = Distillation(CrossEntropy())(logits, torch.tensor([0, 1]), torch.eye(3)[:2])
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_without_a_teacher_it_is_the_loss_on_labels() -> None:
    assert Distillation(CrossEntropy())(TENTHS, torch.tensor([1])).item() == pytest.approx(-np.log(0.9))


@pytest.fixture(scope="module")
def stored(checkpoints: list[Path], rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both members of the tiny ensemble say of its rows."""
    path = tmp_path_factory.mktemp("teachers") / "vote"
    assert main([*map(str, checkpoints), "--data", str(rows_file), "--output", str(path)]) == 0
    return path


def test_the_stored_vote_is_the_members_mean_in_whatever_order_it_is_asked_for(
    stored: Path, checkpoints: list[Path], rows_file: Path
) -> None:
    examples = [row.example for row in read_labelled(rows_file)][40:80][::-1]
    expected = np.mean(
        [softmax(TrainedMember.load(folder).logits(examples)) for folder in checkpoints], axis=0
    )
    assert load(stored, examples) == pytest.approx(expected, abs=1e-5)
    assert load(stored, examples, checkpoints) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InvalidTeachers, match="other teachers"):
        load(stored, examples, checkpoints[:1])


def test_a_teacher_that_was_trained_anew_is_another_one(tmp_path: Path, rows_file: Path) -> None:
    examples = [row.example for row in read_labelled(rows_file)][:10]
    (weights := tmp_path / "model.safetensors").write_bytes(b"old")
    save(tmp_path / "vote.npz", examples, np.full((10, 30), 1 / 30, dtype=np.float32), [tmp_path])
    assert load(tmp_path / "vote.npz", examples, [tmp_path]).shape == (10, 30)
    weights.write_bytes(b"new")
    with pytest.raises(InvalidTeachers, match="other teachers"):
        load(tmp_path / "vote.npz", examples, [tmp_path])


def test_files_that_do_not_hold_the_rows_answers_are_refused(
    stored: Path, rows_file: Path, tmp_path: Path
) -> None:
    examples = [row.example for row in read_labelled(rows_file)][:10]
    wrong = tmp_path / "wrong.npz"
    save(wrong, examples[:7], np.full((7, 30), 1 / 30, dtype=np.float32), [])
    with pytest.raises(InvalidTeachers, match="3 of the 10 training rows are not in it"):
        load(wrong, examples)
    save(wrong, examples, np.full((9, 30), 1 / 30, dtype=np.float32), [])
    with pytest.raises(InvalidTeachers, match="have shape"):
        load(wrong, examples)
    wrong.write_bytes(stored.read_bytes()[:1000])
    with pytest.raises(InvalidTeachers, match=r"wrong\.npz: not a file of training\.teach"):
        load(wrong, examples)
    with wrong.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InvalidTeachers, match="not a file of training"):
        load(wrong, examples)
    with wrong.open("wb") as file:
        np.savez(file, rows=np.array([object()]), probabilities=np.ones((1, 30)), teachers=np.array(["a"]))
    with pytest.raises(InvalidTeachers, match="allow_pickle"):
        load(wrong, examples)


@pytest.mark.slow
def test_a_small_student_learns_from_an_ensemble(
    recipe_file: Path, checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted or not: what the teachers said is kept beside the student, and they are not asked again."""
    options = [
        f"teachers=[{', '.join(map(str, checkpoints))}]",
        "distillation_weight=0.9",
        "layers=1",
        "epochs=4",
        f"output={tmp_path}",
    ]
    arguments = [str(recipe_file), *(part for option in options for part in ("--set", option))]
    assert train(arguments) == 0
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["micro_f1"] > 60
    assert (tmp_path / "teachers.npz").is_file()
    monkeypatch.setattr("training.ensemble.teachers.teach", lambda *_: pytest.fail("asked again"))
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(tmp_path / "teachers.npz", again)
    assert train([*arguments, "--set", "epochs=0.1", "--set", f"output={again}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["aeda", "entity_mask"])
def test_augmented_rows_learn_from_the_teachers_where_no_word_changed_else_from_their_labels(
    recipe_file: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    seen = {}

    def remember(recipe: Recipe, train: object) -> CrossEntropy:
        seen["rows"], seen["teacher"] = train.rows, train.teacher  # type: ignore[attr-defined]
        return Distillation(CrossEntropy())

    monkeypatch.setattr("training.run.trainer.loss", remember)
    options = [
        f"teacher_probabilities={stored}",
        f"augmentation={{method: {method}}}",
        "train_rows=60",
        "epochs=1",
        f"output={tmp_path}",
    ]
    assert train([str(recipe_file), *(part for option in options for part in ("--set", option))]) == 0
    assert seen["teacher"].shape == (len(seen["rows"]), len(RELATIONS))
    assert len(seen["rows"]) > 60
    assert seen["teacher"][:60].max(axis=1).min() < 1
    if method == "aeda":
        assert len(seen["rows"]) == 120, "each row gave one, in the order of the rows"
        assert np.array_equal(seen["teacher"][60:], seen["teacher"][:60])
    else:
        labels = [row.label_id for row in seen["rows"][60:]]
        assert np.array_equal(seen["teacher"][60:], np.eye(len(RELATIONS))[labels])


def test_the_shipped_recipe_has_a_teacher() -> None:
    assert Recipe.read(Path(__file__).parents[1] / "recipes" / "tiny" / "distil.yaml").teachers == (
        Path("runs/tiny/member"),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["teachers=[a]", "teacher_probabilities=b.npz"], "teacher_probabilities"),
        (["teachers=[]"], "teachers"),
        (["distillation_weight=0.5"], "distillation_weight"),
        (["teachers=[a]", "distillation_weight=1.5"], "distillation_weight"),
        (["teachers=[a]", "distillation_temperature=0"], "distillation_temperature"),
        (["teachers=[$NO_SUCH_VARIABLE/a]"], "NO_SUCH_VARIABLE"),
        (["teachers=[nowhere]"], "teachers: checkpoint nowhere"),
        (["teacher_probabilities=nowhere.npz"], "teachers: nowhere.npz"),
    ],
)
def test_a_recipe_with_wrong_teachers_gets_one_plain_line(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    options = [*options, f"output={tmp_path}"]
    assert train([str(recipe_file), *(part for option in options for part in ("--set", option))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"), [(["nowhere"], "nowhere"), (["{checkpoint}", "--data", "no.jsonl"], "no.jsonl")]
)
def test_what_cannot_teach_gets_one_plain_line(
    checkpoints: list[Path],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    filled = [argument.format(checkpoint=checkpoints[1]) for argument in arguments]
    assert (
        main([filled[0], "--data", str(rows_file), "--output", str(tmp_path / "vote.npz"), *filled[1:]]) == 2
    )
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
