"""Recipe options that change a training step or what a run keeps: each against a reference by hand, and
resumed to the same weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainerCallback

from loadtest.sentences import Row
from models.metrics import klue_metrics
from models.rows import label_ids, read_labelled
from training.errors import InvalidRecipe
from training.model.losses import r_drop
from training.model.member import TrainedMember, vote
from training.run.recipe import Recipe
from training.run.trainer import RelationTrainer
from training.run.training import fit, prepare, train

# the Trainer's, of checkpoints within a second of each other
pytestmark = pytest.mark.filterwarnings("ignore:mtime may not be reliable")

RATE, HEAD_RATE = 5e-3, 1e-2
Make = Callable[..., Recipe]
Gradients = Callable[[nn.Module, Callable[[], Tensor]], None]
"""Leaves a model's gradients, given the loss of the one batch."""


@pytest.fixture
def make(recipe_file: Path, tmp_path: Path) -> Make:
    """Recipes of few rows, each with a folder of its own."""
    made = 0

    def recipe(**fields: Any) -> Recipe:
        nonlocal made
        made += 1
        few = {"train_rows": 64, "epochs": 2, "batch_size": 16, "output": tmp_path / str(made)}
        return Recipe.read(recipe_file).changed({**few, **fields})

    return recipe


def weights(recipe: Recipe) -> dict[str, Tensor]:
    return load_file(recipe.output / "model.safetensors")


# One step of sixteen rows without anything random, at the highest learning rate.
ONE_STEP = {
    "train_rows": 16,
    "epochs": 1,
    "warmup_ratio": 0,
    "weight_decay": 0,
    "dropout": 0,
    "encoder_dropout": 0,
    "type_dropout": 0,
}


def plain(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    loss().backward()


def fgm(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """The gradient at the weights, and the one at embeddings that have moved by 0.5 along it."""
    loss().backward()
    weight = model.get_parameter("encoder.embeddings.word_embeddings.weight")
    move = 0.5 * weight.grad / weight.grad.norm()
    weight.data += move
    loss().backward()
    weight.data -= move


def awp(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """The same of every matrix, each moved by a tenth of its norm."""
    loss().backward()
    moves = {
        matrix: 0.1 * matrix.norm().item() * matrix.grad / matrix.grad.norm()
        for matrix in model.parameters()
        if matrix.ndim > 1 and matrix.grad.norm() > 0
    }
    for matrix, move in moves.items():
        matrix.data += move
    loss().backward()
    for matrix, move in moves.items():
        matrix.data -= move


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "gradients"),
    [
        ({}, plain),
        ({"gradient_accumulation": 4, "batch_size": 4}, plain),
        ({"gradient_checkpointing": True}, plain),
        ({"r_drop": 1.0}, plain),  # without dropout both answers are the same
        ({"adversarial": "fgm", "adversarial_size": 0.5}, fgm),
        ({"adversarial": "awp", "adversarial_size": 0.1}, awp),
        ({"adversarial": "fgm", "adversarial_start": 0.5}, plain),  # the one step comes before the start
        ({"layer_decay": 0.5}, plain),
    ],
    ids=["plain", "accumulation", "checkpointing", "r_drop", "fgm", "awp", "fgm later", "layer decay"],
)
def test_a_step_is_the_step_by_hand(make: Make, options: dict[str, Any], gradients: Gradients) -> None:
    recipe = make(**{**ONE_STEP, **options})
    train(recipe)
    trainer = prepare(make(**{**ONE_STEP, "bf16": False}))
    model, (batch,) = trainer.model.train(), list(trainer.get_train_dataloader())
    labels = batch.pop("labels")
    gradients(model, lambda: nn.functional.cross_entropy(model(**batch).logits, labels))
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    decay = options.get("layer_decay", 1.0)
    shares = {
        "encoder.embeddings": decay**2,
        "encoder.encoder.layer.0": decay,
        "encoder.encoder.layer.1": 1.0,
    }
    groups = []
    for name, parameter in model.named_parameters():
        share = next((share for start, share in shares.items() if name.startswith(start)), None)
        rate = HEAD_RATE if share is None else RATE * share
        groups.append({"params": [parameter], "lr": rate, "weight_decay": 0.0})
    torch.optim.AdamW(groups).step()
    for name, weight in weights(recipe).items():
        # Adam divides by the size of the gradient, which makes much of rounding where it is near zero
        close = (weight - model.get_parameter(name)).abs() < 1e-4
        assert close.float().mean() > 0.99, name


@pytest.mark.parametrize(("option", "times"), [(False, 1), (True, 2)])
def test_gradient_checkpointing_computes_each_layer_twice(make: Make, option: bool, times: int) -> None:
    trainer = prepare(make(**ONE_STEP, bf16=False, gradient_checkpointing=option))
    calls: list[bool] = []
    trainer.model.encoder.encoder.layer[0].attention.register_forward_hook(
        lambda module, *_: calls.append(module.training)
    )
    fit(trainer)
    assert sum(calls) == times, "one step; the evaluation does not count"


def test_r_drop_by_hand() -> None:
    one, other = torch.randn(4, 30), torch.randn(4, 30)
    p, q = one.double().softmax(1), other.double().softmax(1)
    by_hand = ((p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1)).mean() / 2
    assert r_drop(one, other).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert r_drop(one, one).item() == 0
    exits = r_drop(torch.stack([one, other], 1), torch.stack([other, one], 1))
    assert exits.item() == pytest.approx(by_hand.item(), rel=1e-5), "the mean over exits"


def test_r_drop_adds_half_of_its_weight_times_the_distance(make: Make) -> None:
    """The paper's loss is the sum of both losses and the weighted distance; ours is half of it."""
    trainer = prepare(make(r_drop=3.0, dropout=0.5, bf16=False))
    batch = next(iter(trainer.get_train_dataloader()))
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    model = trainer.model.train()
    torch.manual_seed(1)
    got = trainer.compute_loss(model, batch)
    torch.manual_seed(1)
    one, other = model(**inputs).logits, model(**inputs).logits
    losses = [nn.functional.cross_entropy(logits, batch["labels"]) for logits in (one, other)]
    assert got.item() == pytest.approx((sum(losses) / 2 + 1.5 * r_drop(one, other)).item(), rel=1e-5)
    assert r_drop(one, other) > 0


class Steps(TrainerCallback):
    """The head's weights after each step."""

    def __init__(self) -> None:
        self.heads: list[np.ndarray] = []

    def on_step_end(self, args, state, control, model, **_):
        self.heads.append(model.head.weight.detach().numpy().copy())


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_the_finished_model_has_the_average_by_hand(make: Make, average: str) -> None:
    steps = Steps()
    recipe = make(average=average, ema_decay=0.7, swa_start=0.5, bf16=False)
    trainer = prepare(recipe, [steps])
    fit(trainer)
    assert len(steps.heads) == 8
    if average == "swa":
        expected = np.mean(steps.heads[4:], axis=0)
    else:
        expected = steps.heads[0]
        for head in steps.heads[1:]:
            expected = 0.7 * expected + 0.3 * head
    np.testing.assert_allclose(trainer.model.head.weight.detach(), expected, atol=1e-6)
    # and the metrics are those of the average
    validation = read_labelled(recipe.validation)
    trainer.model.save_pretrained(recipe.output)
    trainer.processing_class.save_pretrained(recipe.output)
    member = TrainedMember.load(recipe.output)
    answered = vote(member.logits([row.example for row in validation]))
    np.testing.assert_allclose(trainer.predictions.probabilities, answered, atol=1e-5)


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_no_patience_is_wasted(make: Make) -> None:
    """A learning rate far too high: the first epoch is the best by loss, and each later one is worse."""
    recipe = make(
        keep="best", keep_by="loss", patience=2, evaluate="epoch", epochs=6, learning_rate=0.3, train_rows=160
    )
    train(recipe)
    epochs = [json.loads(line) for line in (recipe.output / "epochs.jsonl").read_text().splitlines()]
    losses = [epoch["loss"] for epoch in epochs]
    best = int(np.argmin(losses))
    assert len(losses) == min(6, best + 3), "two epochs after the best one"
    kept = json.loads((recipe.output / "metrics.json").read_text())
    assert kept["micro_f1"] == pytest.approx(epochs[best]["micro_f1"])
    assert kept["auprc"] == pytest.approx(epochs[best]["auprc"])
    validation = read_labelled(recipe.validation)
    answered = vote(TrainedMember.load(recipe.output).logits([row.example for row in validation]))
    assert klue_metrics(label_ids(validation), answered)["auprc"] == pytest.approx(kept["auprc"], abs=0.01)


@pytest.mark.slow
def test_a_run_that_is_interrupted_while_it_waits_for_a_better_epoch_waits_no_longer(make: Make) -> None:
    """The first epoch is the best. The run stops after two more, also when it was interrupted after one."""
    options = {"keep": "best", "keep_by": "loss", "patience": 2, "evaluate": "epoch", "epochs": 6}
    options |= {"learning_rate": 0.3, "train_rows": 160}
    whole, resumed = make(**options), make(**options)
    train(whole)

    class Interrupted(Exception): ...

    with pytest.MonkeyPatch.context() as patched:
        save = RelationTrainer._save_checkpoint

        def save_twice(self: RelationTrainer, *arguments: object) -> None:
            save(self, *arguments)
            if self.state.epoch >= 2:
                raise Interrupted

        patched.setattr(RelationTrainer, "_save_checkpoint", save_twice)
        with pytest.raises(Interrupted):
            train(resumed)
    train(resumed)
    expected, got = ((recipe.output / "epochs.jsonl").read_text() for recipe in (whole, resumed))
    assert expected == got
    assert len(expected.splitlines()) < 6
    kept, again = weights(whole), weights(resumed)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"average": "ema", "ema_decay": 0.8, "r_drop": 1.0, "adversarial": "fgm", "save_steps": 3},
        {"layer_decay": 0.8, "gradient_accumulation": 2, "batch_size": 8, "gradient_checkpointing": True}
        | {"save_steps": 3},
        {"keep": "best", "patience": 1, "evaluate": "epoch", "average": "swa", "swa_start": 0.1}
        | {"adversarial": "awp", "adversarial_start": 0.3, "epochs": 3},
        pytest.param(
            {"fp16": True, "bf16": None, "save_steps": 3},
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 needs a GPU"),
            ],
        ),
    ],
    ids=["ema, r_drop, fgm", "layer decay, accumulation", "best, swa, awp", "fp16"],
)
def test_an_interrupted_run_resumes_to_the_same_weights(make: Make, options: dict[str, Any]) -> None:
    whole, resumed = make(**options), make(**options)
    train(whole)

    class Interrupted(Exception): ...

    with pytest.MonkeyPatch.context() as patched:
        save = RelationTrainer._save_checkpoint

        def save_once(self: RelationTrainer, *arguments: object) -> None:
            save(self, *arguments)
            raise Interrupted

        patched.setattr(RelationTrainer, "_save_checkpoint", save_once)
        with pytest.raises(Interrupted):
            train(resumed)
    train(resumed)
    expected, got = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (whole.output / "metrics.json").read_bytes() == (resumed.output / "metrics.json").read_bytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fp16": True, "bf16": True}, "fp16: give either this or bf16"),
        ({"keep": "best", "evaluate": "end"}, "keep: the best epoch is only known"),
        ({"patience": 2}, "patience: it requires `keep: best`"),
        ({"adversarial_size": 1.0}, "adversarial_size: it requires"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    make: Make, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        make(**fields)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in float16")
def test_float16_needs_a_gpu(make: Make) -> None:
    with pytest.raises(InvalidRecipe, match="fp16: float16 needs an NVIDIA GPU"):
        train(make(fp16=True, bf16=None))


@pytest.mark.slow
def test_validation_rows_of_training_sentences_are_counted_and_left_out(
    make: Make, rows: list[Row], tmp_path: Path
) -> None:
    train_file, validation_file = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    known, new = rows[:64], rows[64:100]
    seen = {str(row["sentence"]) for row in known}
    train_file.write_text("".join(json.dumps(row) + "\n" for row in known))
    validation_file.write_text("".join(json.dumps(row) + "\n" for row in [*known[:10], *new]))
    files = {"train": train_file, "validation": validation_file, "train_rows": None}
    apart = np.array([str(row["sentence"]) not in seen for row in [*known[:10], *new]])
    for leave_out in (False, True):
        recipe = make(**files, apart=leave_out, evaluate="epoch")
        shown = train(recipe)
        run = json.loads((recipe.output / "run.json").read_text())
        assert run["validation_rows_in_train"] == int((~apart).sum()) >= 10
        metrics = json.loads((recipe.output / "metrics.json").read_text())
        stored = np.load(recipe.output / "predictions.npz")
        labels, probabilities = stored["label_ids"], stored["probabilities"]
        assert len(labels) == len(apart), "predictions of all rows"
        for name, part in (("all_rows", apart | True), ("apart_rows", apart)):
            expected = klue_metrics(labels[part], probabilities[part])
            assert metrics[name] == pytest.approx({**expected, "rows": part.sum()})
        chosen = "apart_rows" if leave_out else "all_rows"
        assert shown == pytest.approx({name: metrics[chosen][name] for name in shown})
        last = json.loads((recipe.output / "epochs.jsonl").read_text().splitlines()[-1])
        assert last["auprc"] == pytest.approx(shown["auprc"])
    with pytest.raises(InvalidRecipe, match="apart: every sentence of"):
        train(make(train=train_file, validation=train_file, train_rows=None, apart=True))


def test_the_record_names_every_package_and_keeps_the_changes_of_the_code(make: Make) -> None:
    recipe = make(**ONE_STEP)
    train(recipe)
    run = json.loads((recipe.output / "run.json").read_text())
    assert run["packages"]["torch"] == torch.__version__
    if (ROOT / ".git").exists():
        assert isinstance(run["code"]["diff"], str)
