"""A member's graph on one execution provider: a batch of token ids in, logits out.

The members of a trunk with several exits are stages: the graph of each takes the `States` of the stage before
it and gives states to the stage after it.
"""

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
ENTITY_SPANS: Final = "entity_spans"
ENTITY_TYPES: Final = "entity_types"
LOGITS: Final = "logits"
STATES_IN: Final = ("context", "residual")
STATES_OUT: Final = ("next_context", "next_residual")
"""Names of a stage's inputs and outputs, in the order of the fields of `States`."""

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


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """What one stage of a trunk gives to the next one, in the middle of a layer (export/stages.py).

    Attributes:
        context: the output of the layer's attention, float32 of shape (rows, tokens, hidden size).
        residual: the input of the layer, of the same shape.
    """

    context: NDArray[np.float32]
    residual: NDArray[np.float32]

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> "States":
        return States(self.context[rows], self.residual[rows])

    def cut(self, tokens: int) -> "States":
        """The first `tokens` of each row. The others must be padding."""
        return States(self.context[:, :tokens], self.residual[:, :tokens])

    @classmethod
    def join(cls, parts: "Sequence[States]") -> "States":
        """The rows of all parts, which have the same number of tokens."""
        return cls(
            np.concatenate([part.context for part in parts]),
            np.concatenate([part.residual for part in parts]),
        )


class OnnxClassifier:
    """An ONNX Runtime session over one member's graph. Safe to call from several threads.

    On a GPU there is no IO binding: a row sends a few kilobytes and gets 120 bytes back.

    Args:
        path: the graph.
        threads: cores that one run can use.
        provider: the wanted execution provider.
        gpu: the number of the GPU, where the provider is CUDA.
        weights: the graph's file of large tensors, where it has one.

    Attributes:
        takes_states: whether the graph continues another one.
    """

    def __init__(
        self, path: Path, threads: int, provider: str = CPU, gpu: int = 0, weights: Path | None = None
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # With one thread, memory comes from the C library. The session's own pool would hand out memory that
        # is in another core's caches: with two callers 3 to 4 % slower (docs/log.md).
        options.enable_cpu_mem_arena = provider != CPU or threads > 1
        # Workers spin between the operators of a run: waking them would cost a fifth of its time. They stop
        # spinning after the run, so that the cores are free for other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if weights is not None and weights.resolve().parent != path.resolve().parent:
            # ONNX Runtime reads no weights through a link that leads out of the graph's folder. From memory
            # it takes them, and copies them.
            with weights.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            options.add_external_initializers_from_files_in_memory([weights.name], [content], [len(content)])
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
        inputs = [node.name for node in self._session.get_inputs()]
        self._inputs = [name for name in inputs if name not in STATES_IN]
        self.takes_states = STATES_IN[0] in inputs
        self._outputs = [LOGITS]
        if STATES_OUT[0] in [node.name for node in self._session.get_outputs()]:
            self._outputs += STATES_OUT

    @property
    def provider(self) -> str:
        """The provider that really runs the graph. The library lists CUDA even without a GPU."""
        return str(self._session.get_providers()[0])

    def __call__(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """Logits of shape (rows, 30). Raises the errors of `run`."""
        return self.run(batch)[0]

    def run(
        self, batch: EncodedBatch, states: States | None = None
    ) -> tuple[NDArray[np.float32], States | None]:
        """Logits of shape (rows, 30), and the states for the next stage, if the graph gives any.

        Args:
            states: of the stage before. A graph that `takes_states` requires them, another one ignores them.

        Raises:
            ValueError: the states are missing.
            OutOfMemory: the batch does not fit into the device's free memory. The session can still be used.
        """
        inputs: dict[str, NDArray[Any]] = dict(feed(batch, self._inputs))
        if self.takes_states:
            if states is None:
                raise ValueError("this graph continues another one: give the states of the stage before")
            # padding that the batch no longer needs, because its longest row has stopped
            taken = states.cut(batch.input_ids.shape[1])
            inputs |= dict(zip(STATES_IN, (taken.context, taken.residual), strict=True))
        try:
            logits, *given = self._session.run(self._outputs, inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if any(words in str(error) for words in OUT_OF_MEMORY):
                raise OutOfMemory(str(error)) from None
            raise
        return logits, States(*given) if given else None


class Chain:
    """The stages of a trunk, run one after the other on all rows.

    Args:
        stages: from the first one; one only for an ordinary member.
    """

    def __init__(self, stages: Sequence[OnnxClassifier]) -> None:
        self.stages = stages

    @property
    def provider(self) -> str:
        """The provider that runs the graphs."""
        return self.stages[0].provider

    def __call__(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """Logits of every stage, shape (rows, stages, 30). Raises OutOfMemory, as `OnnxClassifier.run`."""
        logits: list[NDArray[np.float32]] = []
        states = None
        for stage in self.stages:
            said, states = stage.run(batch, states)
            logits.append(said)
        return np.stack(logits, axis=1)


def feed(batch: EncodedBatch, names: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """A batch's arrays by input name: a graph declares only the inputs that its model reads."""
    arrays = {
        INPUT_IDS: batch.input_ids,
        ATTENTION_MASK: batch.attention_mask,
        ENTITY_POSITIONS: batch.entity_positions,
        TOKEN_TYPE_IDS: batch.token_type_ids,
        ENTITY_SPANS: batch.entity_spans,
        ENTITY_TYPES: batch.entity_types,
    }
    return {name: arrays[name] for name in names}


@cache
def _load_cuda_libraries() -> None:
    """Load CUDA's libraries from their Python wheels, where the dynamic loader does not look."""
    onnxruntime.preload_dlls()
