"""A member's graph on one execution provider: a batch of token ids in, logits out."""

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
    # memory grows by the size that a batch needs, not to the next power of two
    "arena_extend_strategy": "kSameAsRequested",
}
OUT_OF_MEMORY: Final = (
    "Failed to allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
    "bad allocation",
)
"""The words for it in errors of ONNX Runtime's arena, CUDA, cuBLAS with cuDNN, and C++."""


class OutOfMemory(MemoryError):
    """A batch did not fit into the device's free memory. A smaller one can fit."""


class OnnxClassifier:
    """An ONNX Runtime session over one member's graph. Safe to call from several threads.

    On a GPU there is no IO binding: a row sends a few kilobytes and gets 120 bytes back.

    Args:
        path: the graph.
        threads: cores that one run can use.
        provider: the wanted execution provider.
        gpu: the number of the GPU, where the provider is CUDA.
    """

    def __init__(self, path: Path, threads: int, provider: str = CPU, gpu: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # With one thread, memory comes from the calling thread. The session's own pool would hand out memory
        # that is in another core's caches: with two callers 3 to 4 % slower (docs/log.md).
        options.enable_cpu_mem_arena = provider != CPU or threads > 1
        # Workers spin between the operators of a run: waking them would cost a fifth of its time. They stop
        # spinning after the run, so that the cores are free for other work.
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
            # Fused, addition and norm run as scalar code on a CPU, six times as slow as one after the other
            # (export/cpu.py).
            disabled_optimizers=["SkipLayerNormFusion"] if provider == CPU else [],
            enable_fallback=0,  # a failure on a GPU must not silently continue on a CPU
        )
        self._inputs = [node.name for node in self._session.get_inputs()]

    @property
    def provider(self) -> str:
        """The provider that really runs the graph. The library lists CUDA even without a GPU."""
        return str(self._session.get_providers()[0])

    def __call__(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """Logits of shape (rows, 30).

        Raises:
            OutOfMemory: the batch does not fit into the device's free memory. The session can still be used.
        """
        try:
            logits: NDArray[np.float32] = self._session.run([LOGITS], feed(batch, self._inputs))[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if any(words in str(error) for words in OUT_OF_MEMORY):
                raise OutOfMemory(str(error)) from None
            raise
        return logits


def feed(batch: EncodedBatch, names: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """A batch's arrays by input name: a graph declares only the inputs that its model reads."""
    arrays = {
        INPUT_IDS: batch.input_ids,
        ATTENTION_MASK: batch.attention_mask,
        ENTITY_POSITIONS: batch.entity_positions,
        TOKEN_TYPE_IDS: batch.token_type_ids,
    }
    return {name: arrays[name] for name in names}


@cache
def _load_cuda_libraries() -> None:
    """Load CUDA's libraries from their Python wheels, where the dynamic loader does not look."""
    onnxruntime.preload_dlls()
