"""One member on one execution provider: a batch of token ids in, logits out."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoding import EncodedBatch

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
ENTITY_POSITIONS: Final = "entity_positions"
TOKEN_TYPE_IDS: Final = "token_type_ids"
LOGITS: Final = "logits"

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

CUDA_OPTIONS: Final = {
    # memory grows by what a batch needs, not to the next power of two
    "arena_extend_strategy": "kSameAsRequested",
}
OUT_OF_MEMORY: Final = (
    "Failed to allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
    "bad allocation",
)
"""How ONNX Runtime's arena, CUDA, cuBLAS with cuDNN, and C++ say it."""


class OutOfMemory(MemoryError):
    """A batch did not fit into the memory that the device has left; a smaller one may."""


class OnnxClassifier:
    """An ONNX Runtime session over one member's graph. Safe to call from several threads.

    On a GPU inputs and outputs go the plain way, without IO binding: a row brings a few kilobytes and takes
    120 bytes home.

    Args:
        path: the graph.
        threads: cores that one run may use.
        provider: the execution provider asked for.
        gpu: which of them, where the provider is CUDA.
    """

    def __init__(self, path: Path, threads: int, provider: str = CPU, gpu: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A run of one thread works in its caller's memory: from the session's own pool one caller would get
        # what lies in another core's caches, which costs two callers 3 to 4 % (docs/log.md).
        options.enable_cpu_mem_arena = provider != CPU or threads > 1
        # Between the parts of a run workers spin for the next one, or waking them costs a fifth of it; after
        # a run they must not, or they take the cores from whatever comes then.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers: list[Any] = [provider]
        if provider == CUDA:
            _load_cuda_libraries()
            providers = [(CUDA, CUDA_OPTIONS | {"device_id": str(gpu)})]
        self._session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=providers,
            # In one, addition and norm are scalar code on a CPU, and take six times as long as one by one
            # (export/cpu.py).
            disabled_optimizers=["SkipLayerNormFusion"] if provider == CPU else [],
            enable_fallback=0,  # what fails on a GPU must not go on in silence on a CPU
        )
        self._inputs = [node.name for node in self._session.get_inputs()]

    @property
    def provider(self) -> str:
        """The provider that really runs the graph: the library lists CUDA also where there is none."""
        return str(self._session.get_providers()[0])

    def __call__(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """Logits of shape (rows, 30).

        Raises:
            OutOfMemory: the batch is too large for what is left of the device's memory; the session is still
                good.
        """
        try:
            logits: NDArray[np.float32] = self._session.run([LOGITS], feed(batch, self._inputs))[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if any(words in str(error) for words in OUT_OF_MEMORY):
                raise OutOfMemory(str(error)) from None
            raise
        return logits


def feed(batch: EncodedBatch, names: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """A batch under the names of a graph's inputs: a graph declares those that its model reads."""
    arrays = {
        INPUT_IDS: batch.input_ids,
        ATTENTION_MASK: batch.attention_mask,
        ENTITY_POSITIONS: batch.entity_positions,
        TOKEN_TYPE_IDS: batch.token_type_ids,
    }
    return {name: arrays[name] for name in names}


@cache
def _load_cuda_libraries() -> None:
    """Those that came as Python wheels lie where the dynamic loader does not look."""
    onnxruntime.preload_dlls()
