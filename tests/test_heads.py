"""Every head, in PyTorch and as the graphs that export makes of it: the same answers, and none that depends
on padding. A head in a file of the user's, and an ensemble of four heads over HTTP."""

import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from servers import post, serve
from tokenizers import Tokenizer

from benchmarks.gpu.kernels import kept, needs_of
from export.__main__ import main as export
from export.convert import convert, fuse
from export.graphs import Graphs
from export.quantize import HEAD
from loadtest.sentences import Row
from models.classifier import ATTENTION_MASK, ENTITY_POSITIONS, INPUT_IDS, OnnxClassifier, feed
from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import ENTITY_TYPES, Example
from models.labels import RELATIONS
from models.precision import for_device
from models.voting import softmax
from training.errors import InvalidCheckpoint, InvalidRecipe
from training.model.conditional import ConditionalMaskedLM
from training.model.head import HEADS, HeadInputs
from training.model.head_name import HeadName
from training.model.heads import HeadOptions, RelationClassifier
from training.model.member import TrainedMember
from training.run.pretraining import load_masked_lm
from training.run.recipe import Recipe
from training.train import main

PAD = 1
INPUTS = (INPUT_IDS, ATTENTION_MASK, ENTITY_POSITIONS)


NAMES = [*HEADS, "own"]


@pytest.fixture(scope="module")
def examples(rows: list[Row]) -> list[Example]:
    """Rows with both types, with one and with none."""
    typed = [Example.from_row(row) for row in rows[:20]]
    half = [replace(each, subject_entity=replace(each.subject_entity, type=None)) for each in typed[:10]]
    return [
        *typed,
        *half,
        *(replace(each, object_entity=replace(each.object_entity, type=None)) for each in half[:5]),
    ]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder.from_file(encoder_folder / "tokenizer.json", "typed_punctuation", 128, PAD)


@pytest.fixture(scope="module")
def encoded(encoder: Encoder, examples: list[Example]) -> list[Encoded]:
    return [encoder.encode(example) for example in examples]


@pytest.fixture(scope="module")
def own_head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The head of docs/training.md, in a file."""
    folder = tmp_path_factory.mktemp("own")
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (folder / "my_head.py").write_text(code, encoding="utf-8")
    return f"{folder}/my_head.py:Attentive"


@pytest.fixture(scope="module")
def few(rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 120 rows."""
    lines = rows_file.read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path_factory.mktemp("few") / "rows.jsonl"
    path.write_text("".join(lines[:: len(lines) // 120][:120]), encoding="utf-8")
    return path


@pytest.fixture
def train_on_few(recipe_file: Path, few: Path) -> Callable[[str, Path], int]:
    """Train a member with a head on 120 rows; returns the command's exit status."""

    def run(head: str, output: Path) -> int:
        options = (f"head={head}", f"output={output}", f"train={few}", f"validation={few}", "epochs=2")
        return main([str(recipe_file), *(part for option in options for part in ("--set", option))])

    return run


def model_of(head: str, encoder_folder: Path) -> RelationClassifier:
    """A model with large random weights: with weights of the usual size, all rows get nearly the same."""
    torch.manual_seed(1)
    options = HeadOptions(head, "typed_punctuation", 128, dropout=0.1)
    model = RelationClassifier.from_encoder(str(encoder_folder), options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 5 if weight.dim() > 1 else 1
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_head_gives_a_row_the_same_answer_alone_in_any_batch_and_after_export(
    encoder_folder: Path, encoded: list[Encoded], own_head: str, name: str, tmp_path: Path
) -> None:
    model = model_of(own_head if name == "own" else name, encoder_folder)
    inputs = (*INPUTS, *model.reads)
    convert(model, inputs, tmp_path / "converted.onnx")
    fused = tmp_path / "fused.onnx"
    assert fuse(tmp_path / "converted.onnx", fused, layers=2, heads=2, hidden_size=32)["Attention"] == 2
    calibration = EncodedBatch.collate(encoded, PAD)
    graphs = Graphs(fused, [calibration], exits=1, hidden_size=32)
    fp32, int8 = (OnnxClassifier(graphs.paths(each)[0], threads=1) for each in ("fp32", "int8"))

    @torch.inference_mode()
    def in_pytorch(batch: EncodedBatch) -> np.ndarray:
        tensors = {name: torch.from_numpy(array) for name, array in feed(batch, inputs).items()}
        return model(**tensors).logits.numpy()

    def alone(logits: Callable[[EncodedBatch], np.ndarray]) -> np.ndarray:
        return np.concatenate([logits(EncodedBatch.collate([row], PAD)) for row in encoded])

    def padded(logits: Callable[[EncodedBatch], np.ndarray]) -> np.ndarray:
        neighbour = Encoded(np.full(100, 7), np.array([3, 50]))
        return np.concatenate([logits(EncodedBatch.collate([row, neighbour], PAD))[:1] for row in encoded])

    expected = alone(in_pytorch)
    assert np.ptp(expected, axis=0).max() > 0.1, "the rows differ, or nothing is shown"
    for answers in (padded(in_pytorch), alone(fp32), padded(fp32), fp32(EncodedBatch.collate(encoded, PAD))):
        assert np.abs(answers - expected).max() < 2e-5
    in_int8 = alone(int8)
    for answers in (padded(int8), int8(EncodedBatch.collate(encoded, PAD))):
        assert np.abs(answers - in_int8).max() < 2e-5
    of_head = [node for node in onnx.load(str(graphs.paths("int8")[0])).graph.node if HEAD in node.name]
    assert not [node for node in of_head if node.op_type == "MatMulIntegerToFloat"], "a head stays in fp32"
    if name == "own":
        return
    for precision in for_device("cuda"):
        needs = needs_of(onnx.load(str(graphs.paths(precision)[0])))
        assert [str(need) for need in needs.keys() - kept()] == [], f"{precision}: no kernel for CUDA"


def test_the_table_has_the_names_that_a_recipe_allows() -> None:
    assert tuple(HEADS) == get_args(HeadName)


@pytest.mark.parametrize("name", ["r_bert", "entity_types", "lstm"])
def test_a_head_computes_what_its_formula_says(
    encoder_folder: Path, encoded: list[Encoded], name: str
) -> None:
    model = model_of(name, encoder_folder)
    part, weights = model.parts[0], {key: w.detach() for key, w in model.parts[0].state_dict().items()}
    batch = EncodedBatch.collate(encoded, PAD)
    states = torch.randn(*batch.input_ids.shape, 32, generator=torch.Generator().manual_seed(2))
    arrays = (batch.attention_mask, batch.entity_positions, batch.entity_spans, batch.entity_types)
    with torch.inference_mode():
        found = part(HeadInputs(states, *map(torch.from_numpy, arrays)))
    for place, row in enumerate(encoded):
        own = states[place, : len(row)]
        starts = [own[opens] for opens in row.entity_positions.tolist()]
        if name == "r_bert":
            means = [own[first:stop].mean(0) for first, stop in row.entity_spans.tolist()]
            expected = [
                own[0].tanh() @ weights["first.weight"].T + weights["first.bias"],
                *(mean.tanh() @ weights["entity.weight"].T + weights["entity.bias"] for mean in means),
            ]
        elif name == "entity_types":
            subject, object_ = row.entity_types.tolist()
            expected = [*starts, weights["subject.weight"][subject], weights["object.weight"][object_]]
        else:
            with torch.inference_mode():
                read = part.lstm(own.unsqueeze(0))[0][0]
            expected = [read[opens] for opens in row.entity_positions.tolist()]
        assert torch.allclose(found[place], torch.cat(expected), atol=1e-5)


def test_the_span_and_the_type_of_an_entity_are_those_of_its_word(
    encoder_folder: Path, encoder: Encoder, examples: list[Example]
) -> None:
    tokenizer = Tokenizer.from_file(str(encoder_folder / "tokenizer.json"))
    for example in examples:
        row = encoder.encode(example)
        entities = (example.subject_entity, example.object_entity)
        for entity, (first, stop), type_ in zip(
            entities, row.entity_spans.tolist(), row.entity_types.tolist(), strict=True
        ):
            read = "".join(map(tokenizer.id_to_token, row.input_ids[first:stop].tolist()))
            assert read.replace("▁", "") == unicodedata.normalize("NFKC", entity.word).replace(" ", "")
            assert type_ == (ENTITY_TYPES.index(entity.type) + 1 if entity.type else 0)


GOOD = """
import torch
from training.model.head import Head
class Mine(Head):
    def forward(self, inputs):
        return inputs.first
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (GOOD.replace("Mine", "Other"), "has no class Mine"),
        (GOOD.replace("(Head)", ""), "has no class Mine that is a training.model.head.Head"),
        ("import no_such_package\n" + GOOD, "cannot be run: ModuleNotFoundError: No module named"),
        ("def\n", "cannot be run: SyntaxError"),
        (GOOD.replace("inputs.first", "inputs.states.mean(1)"), "change with the padding"),
        (GOOD.replace("inputs.first", "inputs.starts"), "returns (1, 64) for 1 rows, not (1, 32)"),
        (GOOD.replace("inputs.first", "None"), "returns NoneType"),
        (GOOD.replace("inputs.first", "inputs.entity_spans[0]"), "TypeError"),
        (GOOD + "    reads = ('words',)", "reads names 'words'"),
        (
            GOOD + "    def __init__(self, config):\n        super().__init__(config)\n"
            "        self.register_buffer('scale', torch.ones(1), persistent=False)",
            "buffer 'scale' is not persistent",
        ),
    ],
)
def test_a_bad_head_file_gets_one_plain_line_before_training(
    train_on_few: Callable[[str, Path], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    message: str,
) -> None:
    (tmp_path / "mine.py").write_text(code)
    assert train_on_few(f"{tmp_path}/mine.py:Mine", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{tmp_path}/mine.py" in line
    assert message in line


@pytest.mark.slow
def test_an_ensemble_of_four_heads_is_trained_exported_and_asked_over_http(
    train_on_few: Callable[[str, Path], int],
    few: Path,
    examples: list[Example],
    own_head: str,
    tmp_path: Path,
) -> None:
    folders = []
    for head in ("r_bert", "entity_types", "lstm", own_head):
        folders.append(tmp_path / head.rpartition(":")[2])
        assert train_on_few(head, folders[-1]) == 0
    bundle, members = tmp_path / "bundle", [str(folder) for folder in folders]
    options = ["--data", str(few), "--precision", "fp32"]
    assert export([*members, "--output", str(bundle), *options]) == 0
    logits = [TrainedMember.load(folder).logits(examples) for folder in folders]
    expected = np.mean([softmax(of_member) for of_member in logits], axis=0)
    asked = [request_of(example) for example in examples]
    own_file = Path(own_head.rpartition(":")[0])
    code = own_file.read_bytes()
    own_file.write_bytes(b"raise SystemExit")  # serving must not run it
    try:
        with serve(bundle) as client:
            together = post(client, {"examples": asked, "top_k": 30}).json()["predictions"]
            alone = [post(client, {**each, "top_k": 30}).json() for each in asked]
    finally:
        own_file.write_bytes(code)
    for answers in (together, alone):
        for answer, row in zip(answers, expected, strict=True):
            found = [answer["probabilities"][relation] for relation in RELATIONS]
            assert np.abs(np.array(found) - row).max() < 1e-4
            assert answer["members"] == 4


def request_of(example: Example) -> dict[str, Any]:
    return {
        "sentence": example.sentence,
        **{
            name: {"start_idx": entity.start_idx, "end_idx": entity.end_idx, "type": entity.type}
            for name, entity in (
                ("subject_entity", example.subject_entity),
                ("object_entity", example.object_entity),
            )
        },
    }


def test_a_member_of_a_head_that_has_changed_or_is_gone_is_refused(
    train_on_few: Callable[[str, Path], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(GOOD)
    assert train_on_few(f"{file}:Mine", output) == 0
    TrainedMember.load(output)
    file.write_text(GOOD + "# changed")
    with pytest.raises(InvalidCheckpoint, match=r"mine\.py has changed since the member was trained"):
        TrainedMember.load(output)
    capsys.readouterr()
    assert train_on_few(f"{file}:Mine", output) == 2
    assert "was begun with another head" in capsys.readouterr().err
    file.unlink()
    with pytest.raises(InvalidCheckpoint, match=r"mine\.py: No such file"):
        TrainedMember.load(output)


def test_a_recipe_and_a_search_with_the_older_name_of_the_field_can_be_read(recipe_file: Path) -> None:
    space = "{trials: 2, parameters: {pooling: {type: choice, choices: [cls, mean]}}}"
    recipe = Recipe.read(recipe_file, {"pooling": "cls", "search": space})
    assert recipe.head == "cls"
    assert recipe.changed({"pooling": "mean"}).head == "mean"
    with pytest.raises(InvalidRecipe, match="pooling: it is the older name of head"):
        Recipe.read(recipe_file, {"pooling": "cls", "head": "mean"})


@pytest.mark.parametrize(("asked", "probability"), [(None, 0.1), (0.0, 0.0), (0.3, 0.3)])
def test_the_encoder_drops_out_as_its_checkpoint_or_the_recipe_says(
    encoder_folder: Path, asked: float | None, probability: float
) -> None:
    options = HeadOptions(
        "entity_start", "typed_punctuation", 128, dropout=0.2, layers=1, encoder_dropout=asked
    )
    model = RelationClassifier.from_encoder(str(encoder_folder), options)
    inside = {module.p for module in model.encoder.modules() if isinstance(module, torch.nn.Dropout)}
    assert inside == {probability}
    assert model.encoder.encoder.layer[0].attention.self.dropout_prob == probability, (
        "the fused attention takes it from here"
    )
    assert model.dropout.p == 0.2


def test_a_finished_member_goes_on_with_its_head_and_a_checkpoint_that_lacks_weights_is_refused(
    checkpoints: list[Path], encoder_folder: Path, tmp_path: Path
) -> None:
    options = HeadOptions("entity_start", "typed_punctuation", 64, dropout=0.3)
    member = RelationClassifier.from_encoder(str(checkpoints[0]), options)
    stored = load_file(checkpoints[0] / "model.safetensors")
    assert all(torch.equal(weight, stored[name]) for name, weight in member.state_dict().items())
    assert (member.config.window, member.dropout.p) == (64, 0.3)
    for pooling, markers in (("mean", "typed_punctuation"), ("entity_start", "entity_tokens")):
        with pytest.raises(ValueError, match="is a finished member with"):
            RelationClassifier.from_encoder(
                str(checkpoints[0]), HeadOptions(pooling, markers, 64, dropout=0.3)
            )
    with pytest.raises(ValueError, match=r"lacks 16 of its weights, the first one is encoder\.layer\.2\."):
        RelationClassifier.from_encoder(str(encoder_folder), replace(options, layers=3))
    (tmp_path / "config.json").write_text('{"model_type": "distilbert"}')
    with pytest.raises(ValueError, match="encoder_dropout has no effect on a distilbert"):
        RelationClassifier.from_encoder(str(tmp_path), replace(options, encoder_dropout=0.0))
    for load in (load_masked_lm, partial(ConditionalMaskedLM.from_encoder, window=64)):
        with pytest.raises(ValueError, match=r"lacks \d+ of its weights"):
            load(str(checkpoints[0]))


def test_a_finished_member_that_lost_a_weight_is_no_member(checkpoints: list[Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints[0], tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    del weights["head.bias"]
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    options = HeadOptions("entity_start", "typed_punctuation", 64, dropout=0.3)
    with pytest.raises(ValueError, match=r"lacks 1 of its weights, the first one is head\.bias"):
        RelationClassifier.from_encoder(str(tmp_path / "broken"), options)
    with pytest.raises(InvalidCheckpoint, match=r"lacks 1 of its weights, the first one is head\.bias"):
        TrainedMember.load(tmp_path / "broken")
