"""The parts of `python -m benchmarks.gpu`, one after the other."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.gpu.ensemble import ProvenGraph, make_bundle, time_batches, time_http
from benchmarks.gpu.limits import Limits, measure_limits
from benchmarks.gpu.member import (
    SHAPES,
    Forward,
    Shape,
    export_graphs,
    in_onnxruntime,
    in_pytorch,
    make_model,
)
from benchmarks.gpu.work import BatchWork, Timed, equal, mixed
from export.parity import compare
from loadtest.command import write_json
from loadtest.sentences import Row
from models.bundle import Bundle, Parity
from models.encoding import Encoder
from models.example import Example
from models.hub import BundlePlace
from models.precision import Device
from models.voting import softmax

EAGER: Final = "PyTorch SDPA, eager"
COMPILED: Final = "PyTorch SDPA, compiled"
FUSED, PACKED, UNFUSED = "ONNX Runtime, fused", "ONNX Runtime, packed", "ONNX Runtime, unfused"
SHARE_OF_MATRIX_RATE: Final = 0.5
TIMES_EAGER: Final = 1.3
LEAST_AGREEMENT: Final = 0.995

BatchTimes = dict[str, dict[str, Timed]]
"""By way to run a model, then by batch."""


class PartsReport:
    """Figures, written after every part: a run that is stopped keeps them, and a part that fails stops no
    other part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Any] = {}
        self.failed: list[str] = []

    def add(self, part: str, figures: object) -> None:
        self.figures[part] = figures
        write_json(self.path, self.figures)
        print(f"done: {part}", file=sys.stderr, flush=True)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        try:
            yield
        # for example a compiler that is missing, or a server that does not start
        except Exception as error:
            self.failed.append(name)
            self.add(name, {"failed": f"{type(error).__name__}: {error}"[:2000]})


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """The arguments of the benchmark; `shape` is a key of `SHAPES`."""

    device: Device
    shape: str
    members: int
    bundle: BundlePlace
    rows: Sequence[Row]
    seconds: float
    http_seconds: float
    tuning_s: float
    connections: Sequence[int]
    output: Path


def study(options: GpuOptions) -> tuple[dict[str, Any], dict[str, bool]]:
    """Every part; returns the summary and the promises."""
    device, shape, report = options.device, SHAPES[options.shape], PartsReport(options.output)
    bundle = Bundle.open(options.bundle)
    encoder = encoder_of(bundle)
    works = plan([len(encoder.encode(Example.from_row(row))) for row in options.rows], options.shape)
    limits = measure_limits(device)
    report.add("limits", asdict(limits))
    over_http = partial(
        time_http,
        device=device,
        rows=options.rows,
        connections=options.connections,
        seconds=options.http_seconds,
    )
    with tempfile.TemporaryDirectory() as scratch:
        model = make_model(shape, bundle.manifest.members[0].encoding.pad_token_id)
        graphs, fusions = export_graphs(model, shape, Path(scratch), device)
        report.add("fusions", fusions)
        member = RandomMember(shape, works, in_pytorch(model, device), options.seconds, report)
        member.time(EAGER, lambda: in_pytorch(model, device))
        member.time(FUSED, lambda: in_onnxruntime(graphs["fused"], device))
        if "packed" in graphs:
            member.time(PACKED, lambda: in_onnxruntime(graphs["packed"], device))
        served = min(member.times.keys() - {EAGER}, key=lambda way: member.times[way][works[-1].name].p50_ms)
        path = graphs["packed" if served == PACKED else "fused"]
        graph = ProvenGraph(path, device, shape, fusions, member.parities[served])
        made = make_bundle(Path(scratch) / "bundle", graph, options.members, like=bundle)
        ensemble = time_batches(made, device, works, shape, options.seconds)
        batches = {name: asdict(timed) for name, timed in ensemble.items()}
        report.add("ensemble", {"members": options.members, "graphs": served, "batches": batches})
        figures = summarise(limits, member.times[EAGER], ensemble, works, options.members)
        report.add("summary", figures)
        with report.part("ensemble over HTTP"):
            report.add("ensemble over HTTP", over_http(made.path, lanes=2, tuning_s=0))
        if device in bundle.devices():
            with report.part("bundle"):
                found = time_batches(bundle, device, works, None, options.seconds)
                report.add("bundle", {name: asdict(timed) for name, timed in found.items()})
            with report.part("bundle over HTTP"):
                report.add("bundle over HTTP", over_http(bundle.path, tuning_s=options.tuning_s))
        member.time(UNFUSED, lambda: in_onnxruntime(graphs["unfused"], device, unfused=True))
        if device == "cuda":
            member.time(COMPILED, lambda: in_pytorch(model, device, compiled=True))
    print(table(limits, member.times, ensemble, options.members), file=sys.stderr)
    promises = {f"every part ran ({', '.join(report.failed) or 'none failed'})": not report.failed}
    if device == "cuda":
        proofs = [file for each in bundle.manifest.members if (file := each.file_for(device))]
        figures["bundle_agreement"] = min((file.parity.label_agreement for file in proofs), default=0.0)
        figures["bundle_proven_on"] = sorted({file.machine for file in proofs})
        promises |= judge(figures)
    report.add("summary", figures)
    return figures, promises


def judge(figures: dict[str, Any]) -> dict[str, bool]:
    """The gates on a GPU."""
    share, times = figures["share_of_matrix_rate"], figures["times_eager_mixed"]
    agreement = figures["bundle_agreement"]
    return {
        f"the ensemble reaches {SHARE_OF_MATRIX_RATE:.0%} of the matrix rate at its best batch": share
        >= SHARE_OF_MATRIX_RATE,
        f"{TIMES_EAGER} times the rows of PyTorch, eager, on mixed lengths": times >= TIMES_EAGER,
        f"the bundle agrees with fp32 in {LEAST_AGREEMENT:.1%} of the labels": agreement >= LEAST_AGREEMENT,
    }


class RandomMember:
    """The member of random weights, timed in one way after the other."""

    def __init__(
        self,
        shape: Shape,
        works: Sequence[BatchWork],
        reference: Forward,
        seconds: float,
        report: PartsReport,
    ) -> None:
        self.shape, self.works, self.seconds, self.report = shape, works, seconds, report
        self.batches = [work.batch(shape.vocabulary) for work in works]
        self.reference = softmax(reference(self.batches[-1]))
        self.times: BatchTimes = {}
        self.parities: dict[str, Parity] = {}

    def time(self, way: str, make: Callable[[], Forward]) -> None:
        """Time every batch, and compare the probabilities with PyTorch's: labels of random weights say
        little."""
        with self.report.part(way):
            run = make()
            found = softmax(run(self.batches[-1]))
            parity = compare(self.reference, found, np.zeros(len(found), dtype=np.int64)).model_copy(
                update={"reference": EAGER}
            )
            times = {}
            for work, batch in zip(self.works, self.batches, strict=True):
                operations = work.operations(self.shape.layers, self.shape.hidden, self.shape.intermediate)
                times[work.name] = Timed.measure(partial(run, batch), work, operations, self.seconds)
            self.times[way], self.parities[way] = times, parity
            batches = {name: asdict(timed) for name, timed in times.items()}
            self.report.add(way, {"batches": batches, "compared with eager": parity.model_dump()})


def encoder_of(bundle: Bundle) -> Encoder:
    """The encoder of the bundle's first member."""
    encoding = bundle.manifest.members[0].encoding
    return Encoder.from_file(
        bundle.path / encoding.tokenizer, encoding.markers, bundle.manifest.max_length, encoding.pad_token_id
    )


def plan(lengths: Sequence[int], shape: str) -> list[BatchWork]:
    """The batches to time; rows of mixed length are last."""
    if shape == "tiny":
        return [equal(4, 32), mixed(8, lengths)]
    sizes = [
        (rows, length)
        for length in (64, 128, 256)
        for rows in (1, 8, 32, 128, 256)
        if rows * length <= 32_768
    ]
    return [
        *(equal(rows, length) for rows, length in sizes),
        *(mixed(rows, lengths) for rows in (32, 128, 256)),
    ]


def summarise(
    limits: Limits,
    eager: dict[str, Timed],
    ensemble: dict[str, Timed],
    works: Sequence[BatchWork],
    members: int,
) -> dict[str, Any]:
    """The ensemble over the matrix rate, and over the same members one after the other in PyTorch."""
    best = max(ensemble, key=lambda name: ensemble[name].tflops or 0)
    mixed_works = [work.name for work in works if "mixed" in work.name]
    ours, theirs = (max(times[name].rows_per_s for name in mixed_works) for times in (ensemble, eager))
    return {
        "device": limits.device,
        "matrix_tflops": round(limits.tflops, 1),
        "copy_gb_per_s": round(limits.copy_gb_per_s),
        "best_batch": best,
        "rows_per_s": round(ensemble[best].rows_per_s, 1),
        "share_of_matrix_rate": round((ensemble[best].tflops or 0) / limits.tflops, 3),
        "times_eager_at_best_batch": round(members * ensemble[best].rows_per_s / eager[best].rows_per_s, 2),
        "times_eager_mixed": round(members * ours / theirs, 2),
    }


def table(limits: Limits, times: BatchTimes, ensemble: dict[str, Timed], members: int) -> str:
    """Markdown: rows a second and the share of the matrix rate, for each batch."""
    ways = {**times, f"ensemble of {members}": ensemble}
    lines = [f"| rows × tokens | {' | '.join(ways)} |", "| --- |" + " --- |" * len(ways)]
    for name in ensemble:
        found = [way[name] for way in ways.values()]
        cells = [f"{one.rows_per_s:.0f}/s, {(one.tflops or 0) / limits.tflops:.0%}" for one in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
