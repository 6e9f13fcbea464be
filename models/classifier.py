"""One member on one execution provider: a batch of token ids in, logits out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoding import EncodedBatch

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
ENTITY_POSITIONS: Final = "entity_positions"
LOGITS: Final = "logits"


class OnnxClassifier:
    """An ONNX Runtime session over one member's graph. Safe to call from several threads.

    Args:
        path: the graph.
        threads: cores that one run may use.
        provider: the execution provider asked for.
    """

    def __init__(self, path: Path, threads: int, provider: str = "CPUExecutionProvider") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A worker that spins for its next piece of work takes the core from the lane beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        self._inputs = [node.name for node in self._session.get_inputs()]

    @property
    def provider(self) -> str:
        """The provider that really runs the graph: the library lists CUDA also where there is none."""
        return str(self._session.get_providers()[0])

    def __call__(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """Logits of shape (rows, 30)."""
        logits: NDArray[np.float32] = self._session.run([LOGITS], feed(batch, self._inputs))[0]
        return logits


def feed(batch: EncodedBatch, names: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """A batch under the names of a graph's inputs: a graph declares those that its model reads."""
    arrays = {INPUT_IDS: batch.input_ids, ATTENTION_MASK: batch.attention_mask, ENTITY_POSITIONS: batch.entity_positions}
    return {name: arrays[name] for name in names}
