"""One checkpoint into a bundle's folder: a member for each exit, its graphs in every precision, each proven
next to the PyTorch model."""

import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.cores import available_cores
from engine.planner import TOKEN_BUDGET, cut_sorted
from export.checkpoint import Checkpoint
from export.convert import check_fusions, convert, fuse
from export.errors import ConversionFailed, ParityFailed
from export.graphs import Graphs
from export.parity import answer, check, compare
from export.proof import has_gpu, machine, provider
from export.stages import exit_names
from export.weights import is_large, save_shared
from models.bundle import InputEncoding, Member, ModelFile
from models.classifier import CUDA, Chain, OnnxClassifier
from models.encoding import Encoded, EncodedBatch
from models.precision import PRECISIONS, Device, Precision
from models.rows import LabelledExample, label_ids

CALIBRATION_ROWS: Final = 400
TIMED_ROWS: Final = 256
GPU_TOKEN_BUDGET: Final = 8192
"""Tokens of a batch that a graph is timed on."""
CLEARLY: Final = 1.05
"""`auto` takes another graph only if it is this many times as fast; a smaller difference can be noise."""


@dataclass(frozen=True, slots=True)
class ProofRows:
    """Labelled rows: those of the proof, and those for the scales of int8's activations."""

    proof: list[LabelledExample]
    calibration: list[LabelledExample]


@dataclass(frozen=True, slots=True)
class Exit:
    """A member to be: one exit of a checkpoint, or its only head.

    Attributes:
        layers: number of layers that its graph runs.
        weight: in the vote.
    """

    name: str
    layers: int
    weight: float


@dataclass(frozen=True, slots=True)
class ProvenGraphs:
    """The graphs of one precision that passed the proof.

    Attributes:
        graphs, files: one for each exit.
        seconds: for the timed rows; 0 if there is no choice to make.
    """

    precision: Precision
    graphs: Sequence[Path]
    files: Sequence[ModelFile]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Proof:
    """What every graph of a checkpoint is held to.

    Attributes:
        fusions: of each exit's graph.
        encoded: the rows of the proof.
        labels: shape (rows,).
        before: the PyTorch model's probabilities, shape (exits, rows, 30).
        timed: whether to measure the speed of the graphs.
    """

    checkpoint: Checkpoint
    exits: Sequence[Exit]
    graphs: Graphs
    fusions: list[dict[str, int]]
    encoded: list[Encoded]
    labels: NDArray[np.int64]
    before: NDArray[np.float64]
    timed: bool

    def prove(self, precision: Precision) -> ProvenGraphs:
        """Build the graphs of a precision and compare the answers at each exit with the model's.

        Raises:
            ConversionFailed, ParityFailed: a graph is not the model that was trained.
        """
        graphs, device = self.graphs.paths(precision), PRECISIONS[precision].device
        for graph, exit_ in zip(graphs, self.exits, strict=True):
            check_fusions(onnx.load(str(graph), load_external_data=False), exit_.layers)
        chain = Chain([OnnxClassifier(graph, available_cores(), provider(device)) for graph in graphs])
        title = f"{self.checkpoint.name} in ONNX, {precision}"
        after = _by_exit(answer(chain, self.encoded, self._pad, title))
        files = []
        for place, exit_ in enumerate(self.exits):
            parity = compare(self.before[place], after[place], self.labels)
            check(parity, exit_.name, precision)
            files.append(
                ModelFile(
                    path=f"members/{exit_.name}/{precision}.onnx",
                    device=device,
                    precision=precision,
                    fusions=self.fusions[place],
                    parity=parity,
                    machine=machine(chain.provider),
                )
            )
        seconds = _seconds(chain, self.encoded[:TIMED_ROWS], self._pad) if self.timed else 0.0
        return ProvenGraphs(precision, graphs, files, seconds)

    @property
    def _pad(self) -> int:
        return self.checkpoint.encoder.pad_token_id


def exits_of(checkpoint: Checkpoint, number: int, weights: Sequence[float]) -> list[Exit]:
    """The members that a checkpoint becomes.

    Args:
        number: of the first of them in the bundle, from 1.
        weights: one for each exit.
    """
    several = len(checkpoint.exits) > 1
    exits = []
    for place, (before, last) in enumerate(pairwise((0, *checkpoint.exits))):
        name = f"{number + place}-{checkpoint.name}" + (f"-exit-{last}" if several else "")
        exits.append(Exit(name, last - before, weights[place]))
    return exits


def export_members(
    checkpoint: Checkpoint,
    exits: Sequence[Exit],
    folder: Path,
    rows: ProofRows,
    precisions: tuple[Precision, ...] | Literal["auto"],
) -> list[Member]:
    """Convert, fuse, quantise and prove one checkpoint, and write its files into `folder`.

    Args:
        exits: of `exits_of`.
        precisions: the graphs to keep. fp32 is converted and proven in any case. auto: for each device the
            fastest graphs that pass the proof.

    Returns:
        A member for each exit.

    Raises:
        ConversionFailed, ParityFailed: a graph is not the model that was trained.
    """
    tokenizer = f"tokenizers/{hashlib.sha256(checkpoint.tokenizer_json).hexdigest()[:12]}.json"
    (folder / tokenizer).write_bytes(checkpoint.tokenizer_json)
    for exit_ in exits:
        (folder / "members" / exit_.name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        proof = _prepare(checkpoint, exits, Path(scratch), rows, timed=precisions == "auto")
        if precisions == "auto":
            kept = fastest(proof.prove)
        else:
            proven = [proof.prove(precision) for precision in dict.fromkeys(("fp32", *precisions))]
            kept = [each for each in proven if each.precision in precisions]
        files = [_place(kept, place, folder) for place in range(len(exits))]
    encoding = InputEncoding(
        markers=checkpoint.markers, tokenizer=tokenizer, pad_token_id=checkpoint.encoder.pad_token_id
    )
    return [
        Member(
            name=exit_.name,
            weight=exit_.weight,
            layers=exit_.layers,
            continues=exits[place - 1].name if place else None,
            encoding=encoding,
            files=files[place],
        )
        for place, exit_ in enumerate(exits)
    ]


def _prepare(
    checkpoint: Checkpoint, exits: Sequence[Exit], scratch: Path, rows: ProofRows, timed: bool
) -> _Proof:
    converted, fused = scratch / "converted.onnx", scratch / "fused.onnx"
    convert(checkpoint.model, checkpoint.inputs, converted, exit_names(len(exits)))
    config, encode = checkpoint.model.config, checkpoint.encoder.encode
    pad = checkpoint.encoder.pad_token_id
    fusions = fuse(converted, fused, checkpoint.layers, config.num_attention_heads, config.hidden_size)
    step = max(1, len(rows.calibration) // CALIBRATION_ROWS)
    calibration = [encode(row.example) for row in rows.calibration[::step][:CALIBRATION_ROWS]]
    encoded = [encode(row.example) for row in rows.proof]
    before = _by_exit(answer(checkpoint.logits, encoded, pad, f"{checkpoint.name} in PyTorch"))
    checkpoint.model.to("meta")  # its weights are not needed any more, and several members can be large
    graphs = Graphs(fused, _batches(calibration, pad), len(exits), config.hidden_size)
    of_exits = [dict(fusions)]
    if len(exits) > 1:
        of_exits = [_count(stage, fusions) for stage in graphs.stages(graphs.load_fused())]
    return _Proof(checkpoint, exits, graphs, of_exits, encoded, label_ids(rows.proof), before, timed)


def _by_exit(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (exits, rows, 30), from (rows, exits, 30), or from (rows, 30) of a single exit."""
    return probabilities.reshape(len(probabilities), -1, probabilities.shape[-1]).swapaxes(0, 1)


def _count(graph: onnx.ModelProto, operators: Collection[str]) -> dict[str, int]:
    """The number of these operators in a graph, without those that it has not."""
    found = Counter(node.op_type for node in graph.graph.node)
    return {name: found[name] for name in operators if found[name]}


def fastest(prove: Callable[[Precision], ProvenGraphs]) -> list[ProvenGraphs]:
    """For each device the fastest graphs that pass the proof.

    Raises:
        ConversionFailed, ParityFailed: fp32 fails, so the conversion itself is wrong.
    """
    taken: dict[Device, ProvenGraphs] = {}
    for precision, facts in PRECISIONS.items():
        if facts.weights_of:
            if facts.weights_of not in [each.precision for each in taken.values()]:
                continue  # the bundle would need the weights for this graph alone
        elif facts.device == "cuda" and not has_gpu():
            continue  # only a GPU tells which of them is fast
        try:
            proven = prove(precision)
        except (ConversionFailed, ParityFailed) as error:
            if precision == "fp32":
                raise
            print(f"export: left out: {error}", file=sys.stderr)
            continue
        if facts.device not in taken or CLEARLY * proven.seconds < taken[facts.device].seconds:
            taken[facts.device] = proven
    return list(taken.values())


def _place(kept: Sequence[ProvenGraphs], place: int, folder: Path) -> list[ModelFile]:
    """Write the graphs of one exit into the bundle. Graphs with the same weights share one file of them, and
    so do graphs that need one because of their size.

    Args:
        place: index of the exit.
    """
    present = {each.precision for each in kept}
    pairs = [
        (facts.weights_of, precision)
        for precision, facts in PRECISIONS.items()
        if facts.weights_of in present
    ]
    together = {each for pair in pairs if pair[1] in present for each in pair}
    together |= {each.precision for each in kept if is_large(each.graphs[place])}
    shared = {
        folder / each.files[place].path: onnx.load(str(each.graphs[place]), load_external_data=False)
        for each in kept
        if each.precision in together
    }
    scratch = kept[0].graphs[place].parent
    weights = save_shared(shared, folder=scratch).relative_to(folder).as_posix() if shared else None
    files = []
    for each in kept:
        file = each.files[place]
        if each.precision in together:
            files.append(file.model_copy(update={"weights": weights}))
        else:
            onnx.save(onnx.load(str(each.graphs[place])), str(folder / file.path))
            files.append(file)
    return files


def _seconds(chain: Chain, rows: Sequence[Encoded], pad_token_id: int) -> float:
    """Seconds for some rows, in batches of a size that suits the device, after a first run."""
    batches = _batches(rows, pad_token_id, GPU_TOKEN_BUDGET if chain.provider == CUDA else TOKEN_BUDGET)
    for batch in batches:
        chain(batch)  # the first batch of a shape takes longer
    began = time.perf_counter()
    for batch in batches:
        chain(batch)
    return time.perf_counter() - began


def _batches(rows: Sequence[Encoded], pad_token_id: int, budget: int = TOKEN_BUDGET) -> list[EncodedBatch]:
    rows = sorted(rows, key=len)
    cuts = cut_sorted(list(map(len, rows)), budget)
    return [EncodedBatch.collate(rows[cut.start : cut.stop], pad_token_id) for cut in cuts]
