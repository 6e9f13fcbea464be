"""What export does to a fused graph for speed alone: the last layer for the tokens that are read, and CPU
kernels in their fastest parts. Answers stay as they are."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from export.convert import convert, fuse
from export.cpu import for_cpu
from export.dequantize import dequantize
from export.narrow import narrow
from export.quantize import quantize
from models.classifier import ATTENTION_MASK, ENTITY_POSITIONS, INPUT_IDS, OnnxClassifier, feed
from models.encoding import Encoded, EncodedBatch
from training.model.heads import RelationClassifier

PAD = 1
TINY = {
    "vocab_size": 300,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "initializer_range": 0.2,
    "num_labels": 30,
    "pad_token_id": PAD,
}
READ = {"entity_start": 2, "cls": 1, "cls_entity_start": 3, "mean": 40, "bert": 1, "roberta": 1, "electra": 1}
"""Tokens of a row that the head reads, of 40."""


def model_of(head: str) -> PreTrainedModel:
    torch.manual_seed(0)
    match head:
        case "bert":
            return BertForSequenceClassification(BertConfig(**TINY)).eval()
        case "roberta":
            return RobertaForSequenceClassification(RobertaConfig(**TINY)).eval()
        case "electra":
            return ElectraForSequenceClassification(ElectraConfig(**TINY, embedding_size=32)).eval()
    config = BertConfig(**TINY)
    config.pooling, config.markers, config.window, config.head_dropout = head, "typed_punctuation", 128, 0.0
    model = RelationClassifier(config).eval()
    with torch.no_grad():
        # the base class leaves them as PyTorch made them, nearly the same for all rows
        for weight in model.parameters():
            weight *= 5 if weight.dim() > 1 else 1
    return model


@pytest.fixture(scope="module")
def batch() -> EncodedBatch:
    generator = np.random.default_rng(0)
    rows = [
        Encoded(generator.integers(5, 300, length), generator.integers(1, length, 2))
        for length in (40, 12, 33, 25)
    ]
    return EncodedBatch.collate(rows, PAD)


@pytest.fixture(scope="module", params=READ)
def head(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """How many tokens a head reads, and the fused graph of a member that has it."""
    folder = tmp_path_factory.mktemp(request.param)
    model = model_of(request.param)
    inputs = (
        INPUT_IDS,
        ATTENTION_MASK,
        *([ENTITY_POSITIONS] if isinstance(model, RelationClassifier) else []),
    )
    convert(model, inputs, folder / "converted.onnx")
    fuse(folder / "converted.onnx", folder / "fused.onnx", layers=2, heads=2, hidden_size=32)
    return READ[request.param], folder / "fused.onnx"


def logits(model: onnx.ModelProto, batch: EncodedBatch, folder: Path) -> np.ndarray:
    onnx.save(model, folder / "graph.onnx")
    return OnnxClassifier(folder / "graph.onnx", threads=1)(batch)


def tokens_of_last_norm(model: onnx.ModelProto, batch: EncodedBatch) -> int:
    name = [node for node in model.graph.node if node.op_type.endswith("LayerNormalization")][-1].output[0]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    (states,) = session.run([name], feed(batch, [node.name for node in session.get_inputs()]))
    return int(states.shape[1])


def test_the_last_layer_is_for_the_tokens_that_are_read(
    head: tuple[int, Path], batch: EncodedBatch, tmp_path: Path
) -> None:
    read, fused = head
    model = onnx.load(fused)
    narrowed = narrow(model)
    assert (tokens_of_last_norm(model, batch), tokens_of_last_norm(narrowed, batch)) == (40, read)
    assert np.abs(logits(narrowed, batch, tmp_path) - logits(model, batch, tmp_path)).max() < 1e-5
    assert narrow(narrowed) is narrowed


def test_in_parts_for_a_cpu_the_answers_stay(
    head: tuple[int, Path], batch: EncodedBatch, tmp_path: Path
) -> None:
    before = logits(onnx.load(head[1]), batch, tmp_path)
    model = for_cpu(onnx.load(head[1]))
    assert "SkipLayerNormalization" not in {node.op_type for node in model.graph.node}
    assert np.abs(logits(model, batch, tmp_path) - before).max() < 1e-5


def test_int8_and_what_a_gpu_makes_of_it(head: tuple[int, Path], batch: EncodedBatch, tmp_path: Path) -> None:
    quantized = quantize(onnx.load(head[1]), [batch])
    before, floats_before = (
        logits(model, batch, tmp_path) for model in (quantized, dequantize(quantized, half=False))
    )
    model = for_cpu(narrow(quantized))
    assert {node.op_type for node in model.graph.node}.isdisjoint({"SkipLayerNormalization", "BiasGelu"})
    # A sum in another order may round to another integer, one step of 255.
    assert np.abs(logits(model, batch, tmp_path) - before).max() < 0.05
    floats = dequantize(model, half=False)
    operators = Counter(node.op_type for node in floats.graph.node)
    assert (operators["SkipLayerNormalization"], operators["BiasGelu"], operators["Attention"]) == (
        4,
        2,
        2,
    ), "fused again"
    assert np.abs(logits(floats, batch, tmp_path) - floats_before).max() < 1e-4


def test_a_cpu_session_leaves_the_parts_apart(
    head: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(for_cpu(narrow(onnx.load(head[1]))), tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession

    def keep(
        path: str, options: onnxruntime.SessionOptions, **others: object
    ) -> onnxruntime.InferenceSession:
        options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
        return session(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", keep)
    OnnxClassifier(tmp_path / "graph.onnx", threads=1)
    assert "SkipLayerNormalization" not in {
        node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node
    }
