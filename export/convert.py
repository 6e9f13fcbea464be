"""A checkpoint into an ONNX graph: optimum converts it, ONNX Runtime's optimiser fuses it, the fusions are
counted."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig
from transformers import PretrainedConfig, PreTrainedModel

from export.errors import ConversionFailed
from export.weights import load, save, without_table, write_table
from models.classifier import (
    ATTENTION_MASK,
    ENTITY_POSITIONS,
    ENTITY_SPANS,
    ENTITY_TYPES,
    INPUT_IDS,
    LOGITS,
    TOKEN_TYPE_IDS,
)

OPSET = 18
TRACED_WORDS = 1024
"""Rows of the table of words while a model is traced. The exporter keeps several copies of all weights, and
the table can be most of them."""
ROWS, TOKENS = "rows", "tokens"
AXES = {
    INPUT_IDS: {0: ROWS, 1: TOKENS},
    ATTENTION_MASK: {0: ROWS, 1: TOKENS},
    TOKEN_TYPE_IDS: {0: ROWS, 1: TOKENS},
    ENTITY_POSITIONS: {0: ROWS},
    ENTITY_SPANS: {0: ROWS},
    ENTITY_TYPES: {0: ROWS},
}


class _Entities(DummyTextInputGenerator):
    SUPPORTED_INPUT_NAMES = (ENTITY_POSITIONS, ENTITY_SPANS, ENTITY_TYPES)

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        shape = [self.batch_size, 2, 2] if input_name == ENTITY_SPANS else [self.batch_size, 2]
        # below 7, for the types: every row has as many tokens
        return self.random_int_tensor(shape, 7, framework=framework, dtype=int_dtype)


class RelationOnnxConfig(TextEncoderOnnxConfig):
    """Tells optimum the inputs and outputs of a member, and which of their axes vary."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, _Entities)

    def __init__(
        self, config: PretrainedConfig, names: tuple[str, ...], outputs: tuple[str, ...] = (LOGITS,)
    ) -> None:
        super().__init__(config, task="text-classification")
        self._names = names
        self._outputs = outputs

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {name: AXES[name] for name in self._names}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {name: {0: ROWS} for name in self._outputs}


class _EachExit(PreTrainedModel):
    """A trunk with an output for each exit, instead of one output of shape (rows, exits, 30)."""

    _supports_sdpa = True  # the model checks it itself

    def __init__(self, model: PreTrainedModel, outputs: tuple[str, ...]) -> None:
        super().__init__(model.config)
        self.model = model
        self.outputs = outputs

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        entity_positions: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        entity_spans: torch.Tensor | None = None,
        entity_types: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        logits = self.model.each(
            input_ids, attention_mask, entity_positions, token_type_ids, entity_spans, entity_types
        )
        return dict(zip(self.outputs, logits, strict=True))


def convert(
    model: PreTrainedModel, inputs: Sequence[str], path: Path, outputs: Sequence[str] = (LOGITS,)
) -> None:
    """Write a model as an unfused fp32 ONNX graph.

    Args:
        inputs: that the model reads, by the names of models/classifier.py.
        outputs: the name of the logits; of a trunk with several exits, a name for the logits of each.

    Raises:
        ConversionFailed: the model is in training mode; tracing would keep its dropout.
    """
    if model.training:
        raise ConversionFailed("the model is in training mode: its dropout would be exported")
    embedding = model.get_input_embeddings()
    table = embedding.weight
    words = min(len(table), max(TRACED_WORDS, (embedding.padding_idx or 0) + 1))
    config = copy.copy(model.config)
    config.vocab_size = words  # optimum draws its ids from them
    if len(outputs) > 1:
        model = _EachExit(model, tuple(outputs)).eval()
    with warnings.catch_warnings():
        # fusion knows the graphs of the tracing exporter, not those of the newer one; parity checks the
        # constants that tracing leaves
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # said of every LSTM; one whose first states are zero takes their size from the batch
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size other than 1")
        embedding.weight = torch.nn.Parameter(table[:words].detach().clone())
        try:
            export(model, RelationOnnxConfig(config, tuple(inputs), tuple(outputs)), path, opset=OPSET)
        finally:
            embedding.weight = table
    converted = onnx.load(str(path))
    _give_table(converted, table.detach().numpy(), path)
    save(converted, path)


def _give_table(model: onnx.ModelProto, table: NDArray[np.float32], path: Path) -> None:
    """Write the whole table of words into a file next to the graph `path`."""
    read = [
        node.input[0] for node in model.graph.node if node.op_type == "Gather" and INPUT_IDS in node.input
    ]
    stored = [tensor for tensor in model.graph.initializer if tensor.name in read]
    if len(stored) != 1:
        raise ConversionFailed(f"{len(stored)} tables of words in the graph, one is required: {read}")
    write_table(stored[0], table, path)


def fuse(path: Path, fused_path: Path, layers: int, heads: int, hidden_size: int) -> Mapping[str, int]:
    """Fuse a converted graph for inference and count what was fused.

    Raises:
        ConversionFailed: fewer attention blocks are fused than the model has layers. The optimiser is
            silent if it does not recognise a graph, and an unfused graph runs at half the speed.
    """
    options = FusionOptions("bert")
    # RoBERTa's positions do not fuse; one form for all models keeps quantisation simple
    options.enable_embed_layer_norm = False
    fusions: dict[str, int] = {}

    def optimise(model: onnx.ModelProto) -> onnx.ModelProto:
        optimised = optimize_model(
            model,
            model_type="bert",
            num_heads=heads,
            hidden_size=hidden_size,
            optimization_options=options,
            opt_level=1,
        )
        counts = optimised.get_fused_operator_statistics()
        fusions.update((name, count) for name, count in counts.items() if count)
        return optimised.model

    fused_graph = without_table(load(path), optimise)
    if (fused := fusions.get("Attention", 0)) < layers:
        raise ConversionFailed(
            f"attention fused in {fused} of {layers} layers: the exporter's graph has changed"
        )
    save(fused_graph, fused_path)
    return fusions


def check_fusions(graph: onnx.ModelProto, layers: int) -> None:
    """Count the fused attention blocks of a graph that was made from a fused one.

    Raises:
        ConversionFailed: there are fewer than the model has layers.
    """
    fused = sum(node.op_type in ("Attention", "QAttention", "PackedAttention") for node in graph.graph.node)
    if fused < layers:
        raise ConversionFailed(f"attention fused in {fused} of {layers} layers")
