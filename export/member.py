"""One member into a bundle's folder: its graph in every precision, each proven next to the PyTorch model."""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from export.weights import save_shared
from models.bundle import InputEncoding, Member, ModelFile
from models.classifier import CUDA, OnnxClassifier
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
class ProvenGraph:
    """A graph that passed the proof.

    Attributes:
        seconds: for the timed rows; 0 if there is no choice to make.
    """

    graph: Path
    file: ModelFile
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Proof:
    """What every graph of a member is held to.

    Attributes:
        encoded: the rows of the proof.
        labels: shape (rows,).
        before: the PyTorch model's probabilities, shape (rows, 30).
        timed: whether to measure the graph's speed.
    """

    name: str
    checkpoint: Checkpoint
    graphs: Graphs
    fusions: dict[str, int]
    encoded: list[Encoded]
    labels: NDArray[np.int64]
    before: NDArray[np.float64]
    timed: bool

    def prove(self, precision: Precision) -> ProvenGraph:
        """Build a graph and compare its answers with the model's.

        Raises:
            ConversionFailed, ParityFailed: the graph is not the model that was trained.
        """
        graph, device = self.graphs.path(precision), PRECISIONS[precision].device
        check_fusions(onnx.load(str(graph)), self.checkpoint.layers)
        classifier = OnnxClassifier(graph, available_cores(), provider(device))
        after = answer(classifier, self.encoded, self._pad, f"{self.name} in ONNX, {precision}")
        parity = compare(self.before, after, self.labels)
        check(parity, self.name, precision)
        file = ModelFile(
            path=f"members/{self.name}/{precision}.onnx",
            device=device,
            precision=precision,
            fusions=self.fusions,
            parity=parity,
            machine=machine(classifier.provider),
        )
        seconds = _seconds(classifier, self.encoded[:TIMED_ROWS], self._pad) if self.timed else 0.0
        return ProvenGraph(graph, file, seconds)

    @property
    def _pad(self) -> int:
        return self.checkpoint.encoder.pad_token_id


def export_member(
    checkpoint: Checkpoint,
    name: str,
    weight: float,
    folder: Path,
    rows: ProofRows,
    precisions: tuple[Precision, ...] | Literal["auto"],
) -> Member:
    """Convert, fuse, quantise and prove one member, and write its files into `folder`.

    Args:
        weight: in the vote.
        precisions: the graphs to keep. fp32 is converted and proven in any case. auto: for each device the
            fastest graph that passes the proof.

    Raises:
        ConversionFailed, ParityFailed: a graph is not the model that was trained.
    """
    encoder = checkpoint.encoder
    tokenizer = f"tokenizers/{hashlib.sha256(checkpoint.tokenizer_json).hexdigest()[:12]}.json"
    (folder / tokenizer).write_bytes(checkpoint.tokenizer_json)
    (folder / "members" / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        proof = _prepare(checkpoint, name, Path(scratch), rows, timed=precisions == "auto")
        if precisions == "auto":
            kept = fastest(proof.prove)
        else:
            proven = [proof.prove(precision) for precision in dict.fromkeys(("fp32", *precisions))]
            kept = [each for each in proven if each.file.precision in precisions]
        files = _place(kept, folder)
    encoding = InputEncoding(
        markers=checkpoint.markers, tokenizer=tokenizer, pad_token_id=encoder.pad_token_id
    )
    return Member(name=name, weight=weight, layers=checkpoint.layers, encoding=encoding, files=files)


def _prepare(checkpoint: Checkpoint, name: str, scratch: Path, rows: ProofRows, timed: bool) -> _Proof:
    converted, fused = scratch / "converted.onnx", scratch / "fused.onnx"
    convert(checkpoint.model, checkpoint.inputs, converted)
    config, encode = checkpoint.model.config, checkpoint.encoder.encode
    pad = checkpoint.encoder.pad_token_id
    fusions = fuse(converted, fused, checkpoint.layers, config.num_attention_heads, config.hidden_size)
    step = max(1, len(rows.calibration) // CALIBRATION_ROWS)
    calibration = [encode(row.example) for row in rows.calibration[::step][:CALIBRATION_ROWS]]
    encoded = [encode(row.example) for row in rows.proof]
    before = answer(checkpoint.logits, encoded, pad, f"{name} in PyTorch")
    graphs = Graphs(fused, _batches(calibration, pad))
    return _Proof(name, checkpoint, graphs, dict(fusions), encoded, label_ids(rows.proof), before, timed)


def fastest(prove: Callable[[Precision], ProvenGraph]) -> list[ProvenGraph]:
    """For each device the fastest graph that passes the proof.

    Raises:
        ConversionFailed, ParityFailed: fp32 fails, so the conversion itself is wrong.
    """
    taken: dict[Device, ProvenGraph] = {}
    for precision, facts in PRECISIONS.items():
        if facts.weights_of:
            if facts.weights_of not in [each.file.precision for each in taken.values()]:
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


def _place(kept: Sequence[ProvenGraph], folder: Path) -> list[ModelFile]:
    """Move graphs into the bundle. Graphs with the same weights share one file of them."""
    present = {each.file.precision for each in kept}
    pairs = [
        (facts.weights_of, precision)
        for precision, facts in PRECISIONS.items()
        if facts.weights_of in present
    ]
    together = {each for pair in pairs if pair[1] in present for each in pair}
    shared = {
        folder / each.file.path: onnx.load(str(each.graph))
        for each in kept
        if each.file.precision in together
    }
    weights = save_shared(shared).relative_to(folder).as_posix() if shared else None
    files = []
    for each in kept:
        if each.file.precision in together:
            files.append(each.file.model_copy(update={"weights": weights}))
        else:
            shutil.move(each.graph, folder / each.file.path)
            files.append(each.file)
    return files


def _seconds(classifier: OnnxClassifier, rows: Sequence[Encoded], pad_token_id: int) -> float:
    """Seconds for some rows, in batches of a size that suits the device, after a first run."""
    batches = _batches(rows, pad_token_id, GPU_TOKEN_BUDGET if classifier.provider == CUDA else TOKEN_BUDGET)
    for batch in batches:
        classifier(batch)  # the first batch of a shape takes longer
    began = time.perf_counter()
    for batch in batches:
        classifier(batch)
    return time.perf_counter() - began


def _batches(rows: Sequence[Encoded], pad_token_id: int, budget: int = TOKEN_BUDGET) -> list[EncodedBatch]:
    rows = sorted(rows, key=len)
    cuts = cut_sorted(list(map(len, rows)), budget)
    return [EncodedBatch.collate(rows[cut.start : cut.stop], pad_token_id) for cut in cuts]
