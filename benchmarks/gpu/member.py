"""A member of random weights, exported by this project's steps, and the ways to run it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from transformers import RobertaConfig

from export.convert import convert, fuse
from export.half import halve
from export.packing import pack
from models.classifier import (
    ATTENTION_MASK,
    CPU,
    CUDA,
    CUDA_OPTIONS,
    ENTITY_POSITIONS,
    INPUT_IDS,
    LOGITS,
    OnnxClassifier,
    feed,
)
from models.encoding import EncodedBatch
from training.model.heads import RelationClassifier

INPUTS = (INPUT_IDS, ATTENTION_MASK, ENTITY_POSITIONS)
Forward = Callable[[EncodedBatch], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of an encoder."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int


SHAPES = {"large": Shape(24, 1024, 4096, 16, 32_000), "tiny": Shape(2, 64, 128, 2, 32_000)}
"""large is klue/roberta-large's."""


def make_model(shape: Shape, pad_token_id: int, head: str = "entity_start") -> RelationClassifier:
    """A classifier with random weights: it takes as much time as a trained one."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=pad_token_id,
        layer_norm_eps=1e-5,
    )
    config.pooling, config.markers, config.window, config.head_dropout = (
        head,
        "typed_punctuation",
        512,
        0.0,
    )
    return RelationClassifier(config).eval()


def export_graphs(
    model: RelationClassifier, shape: Shape, folder: Path, device: str
) -> tuple[dict[str, Path], dict[str, int]]:
    """The member's graphs by name, and the number of fused operators by kind. In fp16 for a GPU; for a CPU in
    fp32 and without the packed graph."""
    converted, fused = folder / "converted.onnx", folder / "fused-fp32.onnx"
    convert(model, INPUTS, converted)
    fusions = dict(fuse(converted, fused, shape.layers, shape.heads, shape.hidden))
    for graph in (converted, fused):  # with its table of words, which is in a file of its own until here
        onnx.save(onnx.load(str(graph)), str(graph))
    if device == "cpu":
        return {"unfused": converted, "fused": fused}, fusions
    graphs = {name: folder / f"{name}.onnx" for name in ("unfused", "fused", "packed")}
    onnx.save(halve(onnx.load(str(converted))), str(graphs["unfused"]))
    onnx.save(halve(onnx.load(str(fused))), str(graphs["fused"]))
    onnx.save(pack(onnx.load(str(graphs["fused"]))), str(graphs["packed"]))
    return graphs, fusions


def in_onnxruntime(graph: Path, device: str, unfused: bool = False) -> Forward:
    """As the server runs it; `unfused` keeps the operators as they are."""
    provider = CUDA if device == "cuda" else CPU
    classifier = OnnxClassifier(graph, torch.get_num_threads(), provider)
    assert classifier.provider == provider, f"ONNX Runtime took {classifier.provider}"
    if not unfused:
        return classifier
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    providers: list[Any] = [(CUDA, CUDA_OPTIONS)] if device == "cuda" else [CPU]
    session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
    return lambda batch: session.run([LOGITS], feed(batch, INPUTS))[0]


def in_pytorch(model: RelationClassifier, device: str, compiled: bool = False) -> Forward:
    """With scaled dot product attention, in fp16 on a GPU, from and to the host's memory."""
    assert model.encoder.config._attn_implementation == "sdpa"
    placed = model.to(device, torch.float16 if device == "cuda" else torch.float32)
    forward = torch.compile(placed, dynamic=True) if compiled else placed

    @torch.inference_mode()
    def run(batch: EncodedBatch) -> NDArray[np.float32]:
        inputs = (batch.input_ids, batch.attention_mask, batch.entity_positions)
        logits = forward(*(torch.from_numpy(values).to(device) for values in inputs)).logits
        found: NDArray[np.float32] = logits.float().cpu().numpy()
        return found

    return run
