"""Checkpoints as teams have them: other label orders, a wrong vocabulary, hostile files."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from manifests import rewrite
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import export.weights
from export.__main__ import main
from export.checkpoint import check_rows, load
from export.errors import InvalidCheckpoint
from export.inspect import main as inspect
from export.verify import main as verify
from loadtest.sentences import Row
from models.bundle import Bundle, BundleRefused
from models.encoding import EncodedBatch
from models.example import Example
from models.labels import COMPETITION_RELATIONS, RELATIONS
from models.rows import read_labelled
from training.errors import InvalidRecipe
from training.model.member import TrainedMember
from training.run.recipe import Recipe
from training.train import main as train

UNNAMED = [f"LABEL_{place}" for place in range(30)]
NUMBERS = [str(place) for place in range(30)]
ALPHABETICAL = sorted(RELATIONS)
SHAPE = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}


def change(path: Path, **fields: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**document, **fields}), encoding="utf-8")


def named(folder: Path, names: list[str]) -> None:
    label2id = {name: place for place, name in enumerate(names)}
    change(folder / "config.json", id2label=dict(enumerate(names)), label2id=label2id)


def reordered(source: Path, folder: Path, order: tuple[str, ...] | list[str], names: list[str]) -> Path:
    """A copy of a member whose head has its rows in another order, and other names."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    rows = torch.tensor([RELATIONS.index(relation) for relation in order])
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][rows].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    named(folder, names)
    return folder


def logits(folder: Path, rows: list[Row], order: str | None = None) -> np.ndarray:
    member = load(folder, "typed_punctuation", order)
    encoded = [member.encoder.encode(Example.from_row(row)) for row in rows[:20]]
    return member.logits(EncodedBatch.collate(encoded, member.encoder.pad_token_id))


@pytest.mark.parametrize("order", [COMPETITION_RELATIONS, ALPHABETICAL, RELATIONS[::-1]])
def test_names_in_another_order_permute_the_head(
    checkpoints: list[Path], rows: list[Row], tmp_path: Path, order: tuple[str, ...]
) -> None:
    folder = reordered(checkpoints[0], tmp_path / "member", order, list(order))
    assert np.array_equal(logits(folder, rows), logits(checkpoints[0], rows))
    (note,) = load(folder).notes
    assert "the head's rows were put into KLUE's order" in note
    assert ("the competition order" in note) == (order == COMPETITION_RELATIONS)


@pytest.mark.parametrize("names", [UNNAMED, NUMBERS, list(RELATIONS)])
def test_label_order_overrules(
    checkpoints: list[Path], rows: list[Row], tmp_path: Path, names: list[str]
) -> None:
    folder = reordered(checkpoints[0], tmp_path / "member", COMPETITION_RELATIONS, names)
    assert np.array_equal(logits(folder, rows, "competition"), logits(checkpoints[0], rows))
    klue = reordered(checkpoints[0], tmp_path / "klue", RELATIONS, list(COMPETITION_RELATIONS))
    assert np.array_equal(logits(klue, rows, "klue"), logits(checkpoints[0], rows))


@pytest.mark.parametrize("names", [UNNAMED, NUMBERS])
def test_unnamed_labels_are_scored_in_both_orders(
    checkpoints: list[Path],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
) -> None:
    folder = reordered(checkpoints[0], tmp_path / "other", COMPETITION_RELATIONS, names)
    command = [str(folder), "--output", str(tmp_path / "bundle"), "--data", str(rows_file)]
    assert main(command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "in the competition order; give --label-order competition" in line
    assert not (tmp_path / "bundle").exists()
    official = reordered(checkpoints[0], tmp_path / "official", RELATIONS, names)
    (note,) = check_rows(load(official), read_labelled(rows_file))
    assert "id2label has no names" in note
    assert note.endswith("klue is taken")


def write_classifier(folder: Path, kind: str) -> Path:
    """A plain classifier that reads the first token, as `Trainer` leaves it, with random weights."""
    torch.manual_seed(0)
    sizes = {**SHAPE, "vocab_size": 2000, "max_position_embeddings": 258, "pad_token_id": 0, "num_labels": 30}
    model = (
        BertForSequenceClassification(BertConfig(**sizes))
        if kind == "bert"
        else RobertaForSequenceClassification(RobertaConfig(**sizes, type_vocab_size=1))
    )
    model.save_pretrained(folder)
    return folder


def write_vocabulary(folder: Path, rows: list[Row], jamo: bool = False) -> None:
    characters = sorted({letter for row in rows for letter in str(row["sentence"])} - {" "} | set("@*#^"))
    pieces = [*characters, *(f"##{character}" for character in characters)]
    if jamo:
        codes = [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]
        pieces += [prefix + chr(code) for code in codes for prefix in ("", "##")]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*specials, *pieces]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_head_on_the_first_token_is_permuted_too(rows: list[Row], tmp_path: Path, kind: str) -> None:
    folder = write_classifier(tmp_path / kind, kind)
    write_vocabulary(folder, rows)
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    named(folder, list(RELATIONS))
    official = logits(folder, rows)
    named(folder, list(COMPETITION_RELATIONS))
    places = [COMPETITION_RELATIONS.index(relation) for relation in RELATIONS]
    assert np.array_equal(logits(folder, rows), official[:, places])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*RELATIONS[:29], "per:boss"], "id2label: 29 is 'per:boss', which is none of KLUE's 30 relations"),
        (["none", *RELATIONS[1:]], "id2label: 0 is 'none', which is none of KLUE's 30 relations"),
        ([*RELATIONS[:29], "no_relation"], "id2label: 'no_relation' is there twice"),
    ],
)
def test_other_names_are_refused(
    checkpoints: list[Path], tmp_path: Path, names: list[str], message: str
) -> None:
    folder = Path(shutil.copytree(checkpoints[0], tmp_path / "member"))
    change(folder / "config.json", id2label=dict(enumerate(names)))
    with pytest.raises(InvalidCheckpoint, match=message):
        load(folder)


@pytest.mark.parametrize("jamo", [False, True], ids=["jamo are unknown", "jamo are known"])
def test_a_vocabulary_whose_tokenizer_takes_hangul_apart_is_refused(
    rows: list[Row], rows_file: Path, tmp_path: Path, jamo: bool
) -> None:
    folder = write_classifier(tmp_path / "bert", "bert")
    write_vocabulary(folder, rows, jamo)
    with pytest.raises(
        InvalidCheckpoint, match=r"it takes Hangul apart, .* of the tokens of the rows are unkn"
    ):
        check_rows(load(folder, "typed_punctuation", "klue"), read_labelled(rows_file))
    change(folder / "tokenizer_config.json", do_lower_case=False)
    assert check_rows(load(folder, "typed_punctuation", "klue"), read_labelled(rows_file)) == []


def test_training_refuses_it_before_its_first_step(
    recipe_file: Path, rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_classifier(tmp_path / "bert", "bert")
    write_vocabulary(folder, rows)
    output = tmp_path / "member"
    assert train([str(recipe_file), "--set", f"encoder={folder}", "--set", f"output={output}"]) == 2
    assert f"encoder {folder}: the tokenizer does not fit: it takes Hangul apart" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(("kept", "outcome"), [(0, "refused"), (0.93, "warned"), (1, "silent")])
def test_a_vocabulary_of_other_text_is_found_by_its_unknown_tokens(
    rows: list[Row], rows_file: Path, tmp_path: Path, kept: float, outcome: str
) -> None:
    folder = write_classifier(tmp_path / "bert", "bert")
    write_vocabulary(folder, rows if kept else [{"sentence": "abc"}])
    if outcome == "warned":
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").replace("\n##다\n", "\n##q\n")
        (folder / "vocab.txt").write_text(lines.replace("\n##은\n", "\n##z\n"), encoding="utf-8")
    change(folder / "tokenizer_config.json", do_lower_case=False)
    member, labelled = load(folder, "typed_punctuation", "klue"), read_labelled(rows_file)
    if outcome == "refused":
        with pytest.raises(InvalidCheckpoint, match=r"the tokenizer does not fit: .* are unknown"):
            check_rows(member, labelled)
    else:
        assert len(check_rows(member, labelled)) == (outcome == "warned")


@pytest.mark.parametrize("left", [[], ["tokenizer_config.json"], ["special_tokens_map.json"]])
def test_no_tokenizer_in_the_folder_is_said(checkpoints: list[Path], tmp_path: Path, left: list[str]) -> None:
    folder = Path(shutil.copytree(checkpoints[0], tmp_path / "member"))
    for path in folder.glob("*token*"):
        if path.name not in left:
            path.unlink()
    with pytest.raises(InvalidCheckpoint, match=r"no tokenizer in the folder; copy tokenizer\.json"):
        load(folder)


def index(**shards: str) -> Callable[[Path], None]:
    return lambda folder: change(folder / "model.safetensors.index.json", metadata={}, weight_map=shards)


def config(**fields: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (index(a="pytorch_model.bin"), "names 'pytorch_model.bin'; only .safetensors files are opened"),
        (index(a="weights.pt"), "names 'weights.pt'; only .safetensors files are opened"),
        (index(a="../model.safetensors"), "'../model.safetensors', which is not a file of the folder"),
        (index(a="/tmp/model.safetensors"), "'/tmp/model.safetensors', which is not a file of the folder"),
        (index(a="model-2.safetensors"), "'model-2.safetensors', which is not a file of the folder"),
        (index(), "index.json: weight_map is missing"),
        (
            config(attn_implementation="someone/kernel"),
            "attn_implementation names 'someone/kernel', code from",
        ),
        (
            config(_attn_implementation="a/b@main:f"),
            "_attn_implementation names 'a/b@main:f', code from a hub",
        ),
        (
            config(quantization_config={"quant_method": "awq"}),
            "quantization_config: quantised weights cannot",
        ),
        (config(transformers_weights="../x.safetensors"), "transformers_weights names '../x.safetensors'"),
        (lambda folder: change(folder / "adapter_config.json"), "an adapter cannot be used"),
        (
            lambda folder: change(folder / "tokenizer_config.json", vocab_file="/etc/hostname"),
            "vocab_file '/etc/hostname' is not a file of the folder",
        ),
        (lambda folder: (folder / "config.json").write_text("[" * 99_999), "config.json: not JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: No such file or directory"),
    ],
)
def test_hostile_files_are_refused_before_anything_is_loaded(
    checkpoints: list[Path],
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    folder = Path(shutil.copytree(checkpoints[0], tmp_path / "member"))
    spoil(folder)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(InvalidCheckpoint) as refused:
        load(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"^checkpoint ") as refused_by_training:
        TrainedMember.load(folder)
    assert message in str(refused_by_training.value)


def test_no_step_of_an_export_needs_the_table_of_words_in_a_graph(
    checkpoints: list[Path], rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protobuf ends at 2 GiB. With a limit of 1 MB instead, a table of 2.6 MB passes every step."""
    folder, bundle = Path(shutil.copytree(checkpoints[0], tmp_path / "member")), tmp_path / "bundle"
    tensors = load_file(folder / "model.safetensors")
    (name,) = [name for name in tensors if name.endswith("word_embeddings.weight")]
    words = torch.zeros((20_000, tensors[name].shape[1]))
    words[: len(tensors[name])] = tensors[name]
    save_file(tensors | {name: words}, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", vocab_size=len(words))
    sizes: list[int] = []
    write = onnx.ModelProto.SerializeToString

    def limited(model: onnx.ModelProto) -> bytes:
        sizes.append(model.ByteSize())
        assert sizes[-1] < 1_000_000
        return bytes(write(model))

    monkeypatch.setattr(onnx.ModelProto, "SerializeToString", limited)
    monkeypatch.setattr(export.weights, "LARGEST_GRAPH", 200_000)
    options = ["--data", str(rows_file), "--precision", "fp32,int8,fp16"]
    assert main([str(folder), "--output", str(bundle), *options]) == 0
    assert sizes
    assert (bundle / "members/1-member/weights.bin").stat().st_size > words.nbytes
    links = tmp_path / "links"
    shutil.copytree(bundle, links, copy_function=lambda source, to: os.symlink(Path(source).resolve(), to))
    for place in (bundle, links):
        assert verify([str(place), "--data", str(rows_file)]) == 0


BASELINE = """
subject: "{word}"
object: "{word}"
before: "{subject}</s>{object}"
segments: 1
tokens: ["</s>"]
"""


@pytest.mark.slow
def test_a_template_goes_from_the_recipe_into_the_bundle_with_a_file_of_weights(
    recipe_file: Path,
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also: a graph that is too large for one file, by a lower limit."""
    markers, member, bundle = tmp_path / "baseline.yaml", tmp_path / "member", tmp_path / "bundle"
    markers.write_text(BASELINE, encoding="utf-8")
    assert (
        train(
            [
                str(recipe_file),
                *("--set", f"markers={markers}", "--set", "pooling=cls_entity_start"),
                *("--set", f"output={member}", "--set", "epochs=2"),
            ]
        )
        == 0
    )
    assert (
        Recipe.read(member / "recipe.yaml").markers
        == Recipe.read(recipe_file, {"markers": str(markers)}).markers
    )
    folder = reordered(member, tmp_path / "unnamed", COMPETITION_RELATIONS, UNNAMED)
    monkeypatch.setattr(export.weights, "LARGEST_GRAPH", 10_000)
    options = ["--data", str(rows_file), "--precision", "fp32,int8", "--label-order", "competition"]
    assert main([str(folder), "--output", str(bundle), *options]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "--label-order competition: the head's rows were put into KLUE's order" in summary["notes"][0]
    (written,) = Bundle.open(bundle).manifest.members
    assert written.encoding.markers.model_dump(exclude_defaults=True) == {
        "subject": "{word}",
        "object": "{word}",
        "before": "{subject}</s>{object}",
        "segments": 1,
        "tokens": ("</s>",),
    }
    assert {Path(file.weights or "").name for file in written.files} == {"weights.bin"}
    assert (bundle / written.files[0].path).stat().st_size < 50_000
    assert verify([str(bundle), "--data", str(rows_file)]) == 0
    assert inspect([str(bundle)]) == 0
    assert "a template ({word} … {word})" in capsys.readouterr().out
    for spoil, message in (
        (
            {"subject": "no word"},
            "members.0.encoding.markers: marker template: subject: {word} is required once",
        ),
        ({"tokens": ["[X]"]}, "marker template: tokens: '[X]' is in none of the other fields"),
        ({"colour": 1}, "marker template: colour: Extra inputs are not permitted"),
    ):
        copy = Path(shutil.copytree(bundle, tmp_path / f"copy-{next(iter(spoil))}"))
        rewrite(
            copy, lambda manifest, spoil=spoil: manifest["members"][0]["encoding"]["markers"].update(spoil)
        )
        with pytest.raises(BundleRefused) as refused:
            Bundle.open(copy)
        assert message in str(refused.value)


@pytest.mark.parametrize(
    ("markers", "message"),
    [
        ("runes", "'runes' is neither a marker style nor a template file"),
        ("{subject: '{word}'}", "marker template: object: Field required"),
        ("[a]", "marker template: "),
    ],
)
def test_wrong_markers_of_a_recipe_are_refused(recipe_file: Path, markers: str, message: str) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        Recipe.read(recipe_file, {"markers": markers})
    assert message in str(refused.value)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label-order", "alphabetical"], "'alphabetical' is not an order; give klue or competition"),
        (["--label-order", "klue,klue"], "--label-order: 2 given for 1 checkpoints"),
        (["--markers", "missing.yaml"], "'missing.yaml' is neither a marker style nor a template file"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    command = ["member", "--output", str(tmp_path / "bundle"), "--data", "rows.jsonl", *options]
    try:
        status = main(command)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert (status, message in line) == (2, True)
