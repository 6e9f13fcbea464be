"""Task-adaptive pretraining: the loss falls, an encoder comes out that a recipe takes, the same one after an
interruption."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel, set_seed

from loadtest.sentences import Row
from models.rows import read_labelled
from training import train
from training.pretrain import main
from training.run.pretraining import MaskedLMTrainer, Masking, Sentences, load_masked_lm
from training.run.recipe import PretrainingRecipe
from training.run.record import last_checkpoint

# the Trainer's, of checkpoints within a second of each other
pytestmark = pytest.mark.filterwarnings("ignore:mtime may not be reliable")


@pytest.fixture(scope="module")
def recipe_path(encoder_folder: Path, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    fields = {
        "encoder": str(encoder_folder),
        "train": str(write_rows(folder / "train.jsonl", rows[:-80])),
        "validation": str(write_rows(folder / "validation.jsonl", rows[-90:])),
        "output": str(folder / "encoder"),
        "epochs": 4,
        "learning_rate": 5e-3,
        "save_steps": 20,
        "bf16": False,
    }
    path = folder / "pretrain.yaml"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pretrained(recipe_path: Path) -> Path:
    assert main([str(recipe_path)]) == 0
    return PretrainingRecipe.read(recipe_path).output


def test_the_loss_on_held_out_sentences_falls(pretrained: Path, rows: list[Row]) -> None:
    metrics = json.loads((pretrained / "metrics.json").read_bytes())
    assert (metrics["sentences"], metrics["held_out"]) == (len(rows) - 80, 80), (
        "ten of the validation rows are trained on"
    )
    assert metrics["loss_after"] < metrics["loss_before"] - 0.5


def test_the_encoder_has_a_record_and_takes_no_other_run(
    pretrained: Path, recipe_path: Path, rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((pretrained / "run.json").read_bytes())
    assert (facts["seed"], facts["rows"], facts["data"]["validation"]["rows"]) == (42, len(rows) - 80, 90)
    recipe = PretrainingRecipe.read(pretrained / "recipe.yaml")
    assert recipe == PretrainingRecipe.read(recipe_path)
    weights = (pretrained / "model.safetensors").read_bytes()
    assert main([str(recipe_path), "--set", "masked_share=0.3"]) == 2
    assert f"{pretrained} was begun with another masked_share" in capsys.readouterr().err
    assert (pretrained / "model.safetensors").read_bytes() == weights


def test_a_run_that_diverges_leaves_no_encoder(
    recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["learning_rate=1e30", "epochs=1", "train_rows=96", f"output={tmp_path}"]
    assert main([str(recipe_path), *(part for field in wild for part in ("--set", field))]) == 2
    assert "training.pretrain: learning_rate: training diverged" in capsys.readouterr().err
    assert not list(tmp_path.glob("m*")), "neither model.safetensors nor metrics.json"


@pytest.mark.slow
def test_what_comes_out_is_an_encoder_that_a_recipe_takes(
    pretrained: Path, encoder_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    assert json.loads((pretrained / "config.json").read_bytes())["architectures"] == ["BertModel"]
    before, after = (load_file(folder / "model.safetensors") for folder in (encoder_folder, pretrained))
    assert after.keys() == {name for name in before if not name.startswith("pooler")}, (
        "the encoder without a head"
    )
    assert not torch.equal(*(weights["embeddings.word_embeddings.weight"] for weights in (before, after)))
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (encoder_folder, pretrained)]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    assert (
        train.main(
            [
                str(recipe_file),
                "--set",
                f"encoder={pretrained}",
                "--set",
                f"output={tmp_path}",
                "--set",
                "epochs=0.1",
            ]
        )
        == 0
    )


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_weights(
    recipe_path: Path, pretrained: Path, tmp_path: Path
) -> None:
    class Interrupted(Exception): ...

    with pytest.MonkeyPatch.context() as patched:
        save = MaskedLMTrainer._save_checkpoint

        def save_once(self: MaskedLMTrainer, *arguments: object) -> None:
            save(self, *arguments)
            raise Interrupted

        patched.setattr(MaskedLMTrainer, "_save_checkpoint", save_once)
        with pytest.raises(Interrupted):
            main([str(recipe_path), "--set", f"output={tmp_path}"])
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoints" / "checkpoint-20")
    assert main([str(recipe_path), "--set", f"output={tmp_path}"]) == 0
    expected, got = (load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (pretrained / "metrics.json").read_bytes() == (tmp_path / "metrics.json").read_bytes()


def test_a_checkpoint_without_head_or_mask_token_becomes_a_masked_language_model(
    encoder_folder: Path, recipe_path: Path, tmp_path: Path
) -> None:
    """A RoBERTa of which nothing but the encoder was kept, with a tokenizer that knows no mask."""
    shutil.copytree(encoder_folder, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        text = (tmp_path / "bare" / name).read_text(encoding="utf-8")
        text = text.replace("<mask>", "<spare>").replace('"mask_token"', '"another_token"')
        (tmp_path / "bare" / name).write_text(text, encoding="utf-8")
    size = len(AutoTokenizer.from_pretrained(tmp_path / "bare"))
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    RobertaModel(
        RobertaConfig(vocab_size=size, max_position_embeddings=130, pad_token_id=1, **shape)
    ).save_pretrained(tmp_path / "bare")

    set_seed(3)
    model, tokenizer = load_masked_lm(str(tmp_path / "bare"))
    assert tokenizer.mask_token_id == size
    embeddings = model.get_input_embeddings().weight
    assert len(embeddings) == size + 1
    assert model.get_output_embeddings().weight is embeddings, "tied"
    kept = AutoModel.from_pretrained(tmp_path / "bare").state_dict()["embeddings.word_embeddings.weight"]
    assert torch.equal(embeddings[:size], kept)
    set_seed(3)
    again, _ = load_masked_lm(str(tmp_path / "bare"))
    assert all(
        torch.equal(*pair)
        for pair in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )

    overrides = [
        f"encoder={tmp_path / 'bare'}",
        f"output={tmp_path / 'out'}",
        "max_length=128",
        "layers=1",
        "epochs=1",
    ]
    assert main([str(recipe_path), *(part for override in overrides for part in ("--set", override))]) == 0
    assert AutoModel.from_pretrained(tmp_path / "out").config.num_hidden_layers == 1
    assert AutoTokenizer.from_pretrained(tmp_path / "out").mask_token_id == size


def test_masks_follow_seed_epoch_and_rows_and_keep_the_shares(rows_file: Path, encoder_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    sentences = Sentences(read_labelled(rows_file), tokenizer, 128, seed=5)
    masking = Masking(tokenizer, mlm_probability=0.15, pad_to_multiple_of=8)

    def batch(epoch: int) -> dict[str, torch.Tensor]:
        sentences.epoch = epoch
        return masking([sentences[index] for index in range(400)])

    first, again, other = batch(0), batch(0), batch(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["labels"], other["labels"])
    assert first["input_ids"].size(1) % 8 == 0
    chosen = first["labels"] != -100
    ordinary = torch.tensor(
        [[token not in (0, 1, 2) for token in line] for line in other["input_ids"].tolist()]
    )
    assert chosen.sum() / ordinary.sum() == pytest.approx(0.15, abs=0.02)
    assert not chosen[first["attention_mask"] == 0].any()
    masked = first["input_ids"][chosen] == tokenizer.mask_token_id
    kept = first["input_ids"][chosen] == first["labels"][chosen]
    assert masked.float().mean() == pytest.approx(0.8, abs=0.06)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.05)


def test_told_masked_tokens_only_or_all_the_loss_is_the_same(encoder_folder: Path) -> None:
    model, tokenizer = load_masked_lm(str(encoder_folder))
    inputs = tokenizer(
        ["배우 윤가람은 노래를 좋아한다.", "윤가람은 배우다."], return_tensors="pt", padding=True
    )
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[0, 2], labels[1, 1] = inputs["input_ids"][0, 2], inputs["input_ids"][1, 1]
    trainer, shared = object.__new__(MaskedLMTrainer), torch.nn.Sequential()
    shared.forward = model.eval().forward  # as where a wrapper around the model cuts the rows
    alone, wrapped = (trainer.compute_loss(each, {**inputs, "labels": labels}) for each in (model, shared))
    assert alone.item() == pytest.approx(wrapped.item(), rel=1e-5)


def test_a_batch_without_a_masked_token_costs_nothing(encoder_folder: Path) -> None:
    model, tokenizer = load_masked_lm(str(encoder_folder))
    tokens = tokenizer("배우 윤가람은 노래를 좋아한다.", return_tensors="pt")
    inputs = {**tokens, "labels": torch.full_like(tokens["input_ids"], -100)}
    loss = MaskedLMTrainer.compute_loss(object.__new__(MaskedLMTrainer), model, inputs)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("masked_share=1", "masked_share"),
        ("pooling=mean", "pooling"),
        ("encoder=./no-such-encoder", "encoder"),
        ("validation=nothing.jsonl", "nothing.jsonl"),
    ],
)
def test_a_wrong_recipe_gets_one_plain_line(
    recipe_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert main([str(recipe_path), "--set", override]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_sentences_that_are_all_trained_on_cannot_be_reported_on(
    recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--set", f"validation={recipe_path.parent / 'train.jsonl'}", "--set", f"output={tmp_path}"]
    assert main([str(recipe_path), *same]) == 2
    assert "all its sentences are in the training rows" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["tiny", "study"])
def test_the_shipped_recipes_are_recipes(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    monkeypatch.setenv("KLUE_RE_DATA", "a-folder")
    recipe = PretrainingRecipe.read(Path(__file__).parents[1] / "recipes" / folder / "pretrain.yaml")
    assert recipe.output.parent == Path("runs") / folder
