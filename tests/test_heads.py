"""Every pooling, in PyTorch and as the fused graph that export makes of it: the same answers, and none that depends on padding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.convert import convert, fuse
from loadtest.sentences import Row
from models.classifier import ATTENTION_MASK, ENTITY_POSITIONS, INPUT_IDS, OnnxClassifier, feed
from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import Example
from training.heads import POOLED_VECTORS, RelationClassifier

PAD = 1
INPUTS = (INPUT_IDS, ATTENTION_MASK, ENTITY_POSITIONS)


@pytest.fixture(scope="module")
def encoded(encoder_folder: Path, rows: list[Row]) -> list[Encoded]:
    encoder = Encoder.from_file(encoder_folder / "tokenizer.json", "typed_punctuation", 128, PAD)
    return [encoder.encode(Example.from_row(row)) for row in rows[:20]]


@pytest.mark.parametrize("pooling", POOLED_VECTORS)
def test_no_pooling_reads_padding_before_or_after_export(
    encoder_folder: Path, encoded: list[Encoded], pooling: str, tmp_path: Path
) -> None:
    model = RelationClassifier.from_encoder(str(encoder_folder), pooling, "typed_punctuation", 128, dropout=0.1).eval()
    with torch.no_grad():  # random weights of the usual size make all rows nearly the same
        for weight in model.parameters():
            weight *= 5 if weight.dim() > 1 else 1
    convert(model, INPUTS, tmp_path / "converted.onnx")
    assert fuse(tmp_path / "converted.onnx", tmp_path / "fused.onnx", layers=2, heads=2, hidden_size=32)["Attention"] == 2
    graph = OnnxClassifier(tmp_path / "fused.onnx", threads=1)

    @torch.inference_mode()
    def in_pytorch(batch: EncodedBatch) -> np.ndarray:
        return model(**{name: torch.from_numpy(array) for name, array in feed(batch, INPUTS).items()}).logits.numpy()

    def padded(logits: Callable[[EncodedBatch], np.ndarray]) -> np.ndarray:
        neighbour = Encoded(np.full(100, 7), np.array([3, 50]))
        return np.concatenate([logits(EncodedBatch.collate([row, neighbour], PAD))[:1] for row in encoded])

    alone = np.concatenate([in_pytorch(EncodedBatch.collate([row], PAD)) for row in encoded])
    assert np.ptp(alone, axis=0).max() > 0.1, "the rows differ, or nothing is shown"
    for answers in (padded(in_pytorch), padded(graph), graph(EncodedBatch.collate(encoded, PAD))):
        assert np.abs(answers - alone).max() < 1e-5
