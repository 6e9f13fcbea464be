"""Members that Hugging Face's own classes were fine-tuned to: any of the four shapes, each with its own
tokenizer and markers, in one ensemble with each other and with training's own head."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import serve
from manifests import rewrite
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraTokenizerFast,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaTokenizerFast,
)

from engine.lanes import Lanes
from export.__main__ import main
from export.checkpoint import Checkpoint, InvalidCheckpoint, load
from export.convert import convert, fuse
from export.verify import main as verify
from loadtest.sentences import Row
from models.bundle import Bundle, BundleRefused
from models.classifier import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, OnnxClassifier, feed
from models.encoding import EncodedBatch, Encoder
from models.ensemble import Ensemble
from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.markers import MARKER_STYLES, TYPED_PUNCTUATION
from models.marking import Marking
from models.voting import fit_stage_weights, softmax
from training.train import main as train

ENTITY_TOKENS = MARKER_STYLES["entity_tokens"].vocabulary
LABELLED = {"id2label": dict(enumerate(RELATIONS)), "label2id": RELATION_IDS}
SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
# So tiny a model learns nothing from the small weights that large ones begin with.
TINY = {**SHAPE, "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STEPS = 100


def words_of(rows: list[Row]) -> tuple[list[str], list[str]]:
    """The words and the characters of all sentences, and of markers and question."""
    text = (
        " ".join(str(row["sentence"]) for row in rows)
        + " 사람 단체 장소 날짜 기타 수량 및 의 관계는 무엇인가 @ * # ^ ?"
    )
    return sorted(set(text.split())), sorted(set(text) - {" "})


def word_pieces(rows: list[Row], folder: Path) -> str:
    words, characters = words_of(rows)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *characters,
        *(f"##{character}" for character in characters),
    ]
    pieces += [word for word in words if word not in characters]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return str(folder / "vocab.txt")


def bert(rows: list[Row], folder: Path) -> PreTrainedTokenizerFast:
    return BertTokenizerFast(word_pieces(rows, folder), do_lower_case=False)


def electra(rows: list[Row], folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = ElectraTokenizerFast(word_pieces(rows, folder), do_lower_case=False)
    tokenizer.add_tokens(list(ENTITY_TOKENS))  # as ordinary tokens, which many do
    return tokenizer


def roberta(rows: list[Row], folder: Path) -> PreTrainedTokenizerFast:
    """Bytes without any merges: a vocabulary that writes everything."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    (folder / "vocab.json").write_text(
        json.dumps({piece: index for index, piece in enumerate(pieces)}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": list(ENTITY_TOKENS)})
    return tokenizer


def xlm_roberta(rows: list[Row], folder: Path) -> PreTrainedTokenizerFast:
    words, characters = words_of(rows)
    pieces = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")] + [("▁", -4.0)]
    pieces += [(character, -5.0) for character in characters] + [(f"▁{word}", -6.0) for word in words]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=tokenizer)


@dataclass(frozen=True)
class Member:
    make_tokenizer: Callable[[list[Row], Path], PreTrainedTokenizerFast]
    architecture: type[PreTrainedModel]
    config: PretrainedConfig
    markers: str
    window: int


MEMBERS = {
    "bert": Member(
        bert,
        BertForSequenceClassification,
        BertConfig(**TINY, num_labels=30, max_position_embeddings=200),
        "typed_punctuation_question",
        200,
    ),
    "roberta": Member(
        roberta,
        RobertaForSequenceClassification,
        RobertaConfig(**TINY, **LABELLED, max_position_embeddings=258, type_vocab_size=1),
        "entity_tokens",
        256,
    ),
    "xlm_roberta": Member(
        xlm_roberta,
        XLMRobertaForSequenceClassification,
        XLMRobertaConfig(**TINY, **LABELLED, max_position_embeddings=602, type_vocab_size=1),
        "typed_punctuation",
        512,
    ),
    "electra": Member(
        electra,
        ElectraForSequenceClassification,
        ElectraConfig(**TINY, **LABELLED, embedding_size=16, max_position_embeddings=512),
        "entity_tokens",
        512,
    ),
}


@pytest.fixture(scope="module")
def folders(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four fine-tuned checkpoints as users of `Trainer` have them: no `config.json` says how entities are
    marked."""
    folders = {}
    for name, member in MEMBERS.items():
        folder = folders[name] = tmp_path_factory.mktemp("fine-tuned") / name
        folder.mkdir()
        tokenizer = member.make_tokenizer(rows, folder)
        member.config.vocab_size, member.config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
        torch.manual_seed(0)
        model = member.architecture(member.config)
        fine_tune(
            model,
            Encoder(tokenizer.backend_tokenizer, member.markers, member.window, tokenizer.pad_token_id),
            rows,
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folders["bert"] / "tokenizer.json").unlink()  # many older checkpoints have only their vocab.txt
    return folders


def fine_tune(model: PreTrainedModel, encoder: Encoder, rows: list[Row]) -> None:
    names = [INPUT_IDS, ATTENTION_MASK, *([TOKEN_TYPE_IDS] if model.config.type_vocab_size > 1 else [])]
    encoded = [encoder.encode(Example.from_row(row)) for row in rows]
    labels = torch.tensor([RELATION_IDS[str(row["label"])] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        chosen = generator.choice(len(rows), 32, replace=False)
        inputs = feed(EncodedBatch.collate([encoded[index] for index in chosen], encoder.pad_token_id), names)
        model(
            **{name: torch.from_numpy(array) for name, array in inputs.items()}, labels=labels[chosen]
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="module")
def arguments(folders: dict[str, Path], checkpoints: list[Path]) -> list[str]:
    """The five checkpoints and how they are marked; training's own says it itself."""
    styles = [*(member.markers for member in MEMBERS.values()), "typed_punctuation"]
    return [*map(str, folders.values()), str(checkpoints[0]), "--markers", ",".join(styles)]


@pytest.fixture(scope="module")
def mixed(arguments: list[str], rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five, as int8 and as fp32, with weights fitted on the first 300 rows."""
    output = tmp_path_factory.mktemp("bundles") / "mixed"
    first = output.with_name("first.jsonl")
    first.write_text(
        "".join(rows_file.read_text(encoding="utf-8").splitlines(keepends=True)[:300]), encoding="utf-8"
    )
    options = ["--precision", "int8,fp32", "--weights", "fit", "--weights-data", str(first)]
    assert main([*arguments, "--output", str(output), "--data", str(rows_file), *options]) == 0
    return output


@pytest.fixture(scope="module")
def mixed_fp32(arguments: list[str], rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "mixed"
    options = ["--precision", "fp32", "--weights", "3,1,2,1,1"]
    assert main([*arguments, "--output", str(output), "--data", str(rows_file), *options]) == 0
    return output


@pytest.mark.slow
def test_five_shapes_make_one_bundle_proven_in_both_precisions(
    mixed: Path, rows_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Bundle.open(mixed).manifest
    assert manifest.max_length == 128, "the smallest of the members' windows"
    assert {member.encoding.markers for member in manifest.members} == {
        "typed_punctuation",
        "typed_punctuation_question",
        "entity_tokens",
    }
    assert len({member.encoding for member in manifest.members}) == 5
    for member in manifest.members:
        precisions = {file.precision: file for file in member.files}
        assert set(precisions) == {"int8", "fp32"}
        assert precisions["fp32"].parity.largest_difference < 1e-4
        assert precisions["int8"].parity.label_agreement >= 0.96
        assert {file.fusions["Attention"] for file in member.files} == {member.layers} == {2}
    assert verify([str(mixed), "--data", str(rows_file)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["micro_f1"] > 95


@pytest.mark.slow
def test_over_http_the_answers_are_pytorchs_alone_and_in_a_batch(
    mixed_fp32: Path, folders: dict[str, Path], checkpoints: list[Path], rows: list[Row]
) -> None:
    asked = rows[:60]
    members = [load(folder, MEMBERS[name].markers) for name, folder in folders.items()] + [
        load(checkpoints[0])
    ]
    probabilities = np.stack([softmax(torch_logits(member.with_window(128), asked)) for member in members])
    expected = np.average(probabilities, axis=0, weights=[3, 1, 2, 1, 1])
    with serve(mixed_fp32, tuning_s=1) as client:
        together = client.post("/relations", json={"examples": asked, "top_k": 30}).json()["predictions"]
        alone = [client.post("/relations", json={**row, "top_k": 30}).json() for row in asked]
        encodings = client.get("/info").json()["members"]
    assert len(encodings) == 5
    for served in (together, alone):
        assert [prediction["relation"] for prediction in served] == [
            RELATIONS[index] for index in expected.argmax(axis=1)
        ]
        answers = np.array(
            [[prediction["probabilities"][relation] for relation in RELATIONS] for prediction in served]
        )
        assert np.abs(answers - expected).max() < 1e-4


@pytest.mark.slow
def test_weights_are_fitted_on_the_rows_given(mixed: Path, rows: list[Row]) -> None:
    bundle = Bundle.open(mixed)
    labels = np.array([RELATION_IDS[str(row["label"])] for row in rows[:300]])
    fitted = fit_stage_weights(
        Lanes.load(bundle).member_probabilities([Example.from_row(row) for row in rows[:300]]), labels
    )
    assert [member.weight for member in bundle.manifest.members] == pytest.approx(fitted.tolist(), abs=1e-6)


def torch_logits(member: Checkpoint, rows: list[Row]) -> NDArray[np.float32]:
    encoded = [member.encoder.encode(Example.from_row(row)) for row in rows]
    return member.logits(EncodedBatch.collate(encoded, member.encoder.pad_token_id))


@pytest.mark.slow
def test_int8_answers_are_the_same_alone_and_in_a_batch(mixed: Path, rows: list[Row]) -> None:
    ensemble = Ensemble.load(Bundle.open(mixed))
    encoded = [ensemble.encode(Example.from_row(row)) for row in rows[:60]]
    together = np.stack([prediction.probabilities for prediction in ensemble.run(encoded)])
    alone = np.stack([ensemble.run([row])[0].probabilities for row in encoded])
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize("name", MEMBERS)
def test_a_checkpoint_tells_its_window_and_what_it_reads(folders: dict[str, Path], name: str) -> None:
    member = load(folders[name], MEMBERS[name].markers)
    types = ["token_type_ids"] if name == "bert" else []  # the others have one type, or one segment
    assert (member.window, member.inputs) == (MEMBERS[name].window, ("input_ids", "attention_mask", *types))


def test_a_vocabulary_alone_and_two_segments_are_read_as_transformers_reads_them(
    folders: dict[str, Path], rows: list[Row]
) -> None:
    tokenizer, encoder = (
        AutoTokenizer.from_pretrained(folders["bert"]),
        load(folders["bert"], "typed_punctuation_question").encoder,
    )
    for row in rows[:20]:
        example = Example.from_row(row)
        question = f"{example.subject_entity.word} 및 {example.object_entity.word}의 관계는 무엇인가?"
        expected = tokenizer(" ".join(Marking(TYPED_PUNCTUATION).mark(example).pieces), question)
        batch = EncodedBatch.collate([encoder.encode(example)], 0)
        assert batch.input_ids[0].tolist() == expected["input_ids"]
        assert batch.token_type_ids[0].tolist() == expected["token_type_ids"]


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.out_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "markers", "message"),
    [
        (
            lambda folder: change_config(folder, id2label={0: "no", 1: "yes"}),
            "entity_tokens",
            "id2label: 2 labels found",
        ),
        (
            lambda folder: None,
            None,
            "--markers must, with a template file or one of typed_punctuation, ",
        ),
        (
            lambda folder: change_config(folder, markers="runes"),
            "entity_tokens",
            "unknown marker style 'runes'",
        ),
        (
            lambda folder: change_config(folder, architectures=["T5Model"]),
            "entity_tokens",
            "T5Model found, one of RelationClassifier, Bert",
        ),
        (lambda folder: rename_markers(folder), "entity_tokens", "the tokenizer lacks <obj>"),
        (
            lambda folder: change_config(folder, vocab_size=200) or shrink(folder),
            "entity_tokens",
            "the tokenizer gives ids up to",
        ),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "entity_tokens",
            "pytorch_model.bin is a pickle and is not opened here",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"?" * 99),
            "entity_tokens",
            "checkpoint ",
        ),
        (drop_a_weight, "entity_tokens", "its weights lack classifier.out_proj.weight"),
    ],
)
def test_a_checkpoint_at_odds_with_itself_is_refused_in_one_line(
    folders: dict[str, Path],
    tmp_path: Path,
    spoil: Callable[[Path], object],
    markers: str | None,
    message: str,
) -> None:
    copy = Path(shutil.copytree(folders["roberta"], tmp_path / "copy"))
    spoil(copy)
    with pytest.raises(InvalidCheckpoint) as refused:
        load(copy, markers)
    assert str(refused.value).startswith(f"checkpoint {copy}: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def rename_markers(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"<obj>"', '"<other>"'), encoding="utf-8")


def shrink(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["roberta.embeddings.word_embeddings.weight"] = weights[
        "roberta.embeddings.word_embeddings.weight"
    ][:200].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--markers", "entity_tokens,entity_tokens"], "--markers: 2 given for 1 checkpoints"),
        (
            ["--markers", "entity_tokens", "--weights-data", "rows.jsonl"],
            "--weights-data: only --weights fit",
        ),
        ([], "--markers must"),
    ],
)
def test_an_impossible_command_gets_one_plain_line(
    folders: dict[str, Path],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert (
        main(
            [
                str(folders["roberta"]),
                "--output",
                str(tmp_path / "bundle"),
                "--data",
                str(rows_file),
                *options,
            ]
        )
        == 2
    )
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def only(manifest: dict[str, Any], shape: str, **fields: object) -> None:
    """Leave one member in a manifest."""
    manifest.update(
        members=[member for member in manifest["members"] if member["name"].endswith(f"-{shape}")],
        cascade=None,
        **fields,
    )


@pytest.mark.slow
def test_a_window_longer_than_robertas_positions_is_refused(mixed_fp32: Path, tmp_path: Path) -> None:
    """Two of its 258 positions are padding's."""
    copy = Path(shutil.copytree(mixed_fp32, tmp_path / "copy"))
    rewrite(copy, lambda manifest: only(manifest, "roberta", max_length=257))
    with pytest.raises(BundleRefused, match="a row of 257 tokens, its max_length, fails"):
        Ensemble.load(Bundle.open(copy)).prove()


@pytest.mark.slow
def test_a_bundle_whose_tokenizer_lacks_the_markers_is_refused(mixed_fp32: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mixed_fp32, tmp_path / "copy"))
    rewrite(
        copy,
        lambda manifest: [
            member["encoding"].update(markers="entity_tokens") for member in manifest["members"]
        ],
    )
    with pytest.raises(
        BundleRefused, match=r"tokenizers/.*: the tokenizer lacks <subj>, </subj>, <obj>, </obj>, which"
    ):
        Ensemble.load(Bundle.open(copy))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "markers", "inputs"),
    [
        ("xlm_roberta", "entity_tokens", ("input_ids", "attention_mask", "entity_positions")),
        ("xlm_roberta", "typed_punctuation_question", ("input_ids", "attention_mask", "entity_positions")),
        (
            "bert",
            "typed_punctuation_question",
            ("input_ids", "attention_mask", "token_type_ids", "entity_positions"),
        ),
    ],
)
def test_training_takes_every_marker_style_and_export_takes_what_it_made(
    folders: dict[str, Path],
    recipe_file: Path,
    rows: list[Row],
    tmp_path: Path,
    encoder: str,
    markers: str,
    inputs: tuple[str, ...],
) -> None:
    recipe = {
        "encoder": folders[encoder],
        "markers": markers,
        "output": tmp_path / "member",
        "train_rows": 64,
        "epochs": 1,
    }
    assert (
        train(
            [
                str(recipe_file),
                *(part for field, value in recipe.items() for part in ("--set", f"{field}={value}")),
            ]
        )
        == 0
    )
    member = load(tmp_path / "member")
    assert (member.markers, member.inputs) == (markers, inputs)
    convert(member.model, member.inputs, tmp_path / "converted.onnx")
    fuse(tmp_path / "converted.onnx", tmp_path / "fused.onnx", layers=2, heads=2, hidden_size=32)
    batch = EncodedBatch.collate(
        [member.encoder.encode(Example.from_row(row)) for row in rows[:20]], member.encoder.pad_token_id
    )
    assert (
        np.abs(OnnxClassifier(tmp_path / "fused.onnx", threads=1)(batch) - member.logits(batch)).max() < 1e-4
    )


def test_an_encoder_that_joins_no_segments_cannot_be_trained_with_a_question(
    recipe_file: Path, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = Path(shutil.copytree(encoder_folder, tmp_path / "encoder"))
    tokenizer = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))
    joined = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    tokenizer["post_processor"]["pair"] = joined
    (encoder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    changes = {"markers": "typed_punctuation_question", "output": tmp_path / "member", "encoder": encoder}
    settings = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    assert train([str(recipe_file), *settings]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "encoder: the tokenizer puts nothing between two segments" in line
