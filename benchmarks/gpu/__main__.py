"""What a GPU gets out of the models: python -m benchmarks.gpu (make benchmark-gpu)

Two limits come first, a matrix product and a copy inside the device's memory. Against them, in the same run:
one member of klue/roberta-large's shape (random weights are enough for speed) in PyTorch and in ONNX Runtime,
by rows and length and on rows of mixed length; an ensemble of five through the code that serves, and over
HTTP; and the same for --bundle. Tokens and operations are counted
without padding: who computes padding computes it for nothing.

`--device cpu --shape tiny` tries the benchmark out where there is no GPU.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.ceiling import read_rows
from benchmarks.gpu.ensemble import make_bundle, time_batches, time_http
from benchmarks.gpu.limits import Limits, measure_limits
from benchmarks.gpu.member import SHAPES, Run, Shape, export_graphs, in_onnxruntime, in_pytorch, make_model
from benchmarks.gpu.work import Timed, Work, equal, mixed
from engine.devices import gpus
from export.parity import compare
from loadtest.server import DEFAULT_BUNDLE
from loadtest.verdict import conclude
from models.bundle import Bundle, Parity
from models.encoding import Encoder
from models.example import Example
from models.precision import Device
from models.voting import softmax

EAGER: Final = "PyTorch SDPA, eager"
COMPILED: Final = "PyTorch SDPA, compiled"
FUSED, PACKED, UNFUSED = "ONNX Runtime, fused", "ONNX Runtime, packed", "ONNX Runtime, unfused"
SHARE_OF_MATRIX_RATE: Final = 0.5
TIMES_EAGER: Final = 1.3
LEAST_AGREEMENT: Final = 0.995

Times = dict[str, dict[str, Timed]]
"""By way to run a model, then by batch."""


class Report:
    """Figures, written after every part: who is stopped half-way keeps what he has, and a part that fails
    costs no other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Any] = {}
        self.failed: list[str] = []

    def add(self, part: str, figures: object) -> None:
        self.figures[part] = figures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(
            json.dumps(self.figures, ensure_ascii=False, indent=2, default=asdict) + "\n", encoding="utf-8"
        )
        print(f"done: {part}", file=sys.stderr, flush=True)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        try:
            yield
        # a compiler that is missing, a server that does not start: whatever comes of other people's code
        except Exception as error:
            self.failed.append(name)
            self.add(name, {"failed": f"{type(error).__name__}: {error}"[:2000]})


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="large", help="of the member with random weights")
    parser.add_argument("--members", type=int, default=5, help="of the ensemble of that shape")
    parser.add_argument(
        "--bundle", type=Path, default=DEFAULT_BUNDLE, help="is measured too, if it has graphs for the device"
    )
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows; default: $KLUE_RE_DATA/validation.jsonl, else rows of our own",
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="of one batch's timing, at least")
    parser.add_argument("--http-seconds", type=float, default=6.0, help="of one measurement over HTTP")
    parser.add_argument("--tuning-s", type=float, default=7.0, help="KORE_TUNING_S of the server of --bundle")
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gpu.json"))
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not gpus():
        print(
            "benchmarks.gpu: no GPU here; --device cpu --shape tiny tries the benchmark out", file=sys.stderr
        )
        return 2
    device: Device = arguments.device
    shape, report, bundle = SHAPES[arguments.shape], Report(arguments.output), Bundle.open(arguments.bundle)
    rows = read_rows(arguments.rows, 512)
    works = plan([len(encoder_of(bundle).encode(Example.from_row(row))) for row in rows], arguments.shape)
    limits = measure_limits(device)
    report.add("limits", limits)
    over_http = partial(
        time_http, device=device, rows=rows, connections=arguments.connections, seconds=arguments.http_seconds
    )
    with tempfile.TemporaryDirectory() as scratch:
        model = make_model(shape, bundle.manifest.members[0].encoding.pad_token_id)
        graphs, fusions = export_graphs(model, shape, Path(scratch), device)
        report.add("fusions", fusions)
        member = _Member(shape, works, in_pytorch(model, device), arguments.seconds, report)
        member.time(EAGER, lambda: in_pytorch(model, device))
        member.time(FUSED, lambda: in_onnxruntime(graphs["fused"], device))
        if "packed" in graphs:
            member.time(PACKED, lambda: in_onnxruntime(graphs["packed"], device))
        served = min(member.times.keys() - {EAGER}, key=lambda way: member.times[way][works[-1].name].p50_ms)
        graph = graphs["packed" if served == PACKED else "fused"]
        made = make_bundle(
            Path(scratch) / "bundle",
            graph,
            arguments.members,
            shape,
            fusions,
            member.parities[served],
            device,
            like=bundle,
        )
        ensemble = time_batches(made, device, works, shape, arguments.seconds)
        report.add("ensemble", {"members": arguments.members, "graphs": served, "batches": ensemble})
        figures = summarise(limits, member.times[EAGER], ensemble, works, arguments.members)
        report.add("summary", figures)
        with report.part("ensemble over HTTP"):
            report.add("ensemble over HTTP", over_http(made.path, lanes=2, tuning_s=0))
        if device in bundle.devices():
            with report.part("bundle"):
                report.add("bundle", time_batches(bundle, device, works, None, arguments.seconds))
            with report.part("bundle over HTTP"):
                report.add("bundle over HTTP", over_http(bundle.path, tuning_s=arguments.tuning_s))
        member.time(UNFUSED, lambda: in_onnxruntime(graphs["unfused"], device, unfused=True))
        if device == "cuda":
            member.time(COMPILED, lambda: in_pytorch(model, device, compiled=True))
    print(table(limits, member.times, ensemble, arguments.members), file=sys.stderr)
    promises = {f"every part ran ({', '.join(report.failed) or 'none failed'})": not report.failed}
    if device == "cuda":
        proofs = [file for each in bundle.manifest.members if (file := each.file_for(device))]
        figures["bundle_agreement"] = min((file.parity.label_agreement for file in proofs), default=0.0)
        figures["bundle_proven_on"] = sorted({file.machine for file in proofs})
        promises |= {
            f"the ensemble reaches {SHARE_OF_MATRIX_RATE:.0%} of the matrix rate at its best batch": (
                figures["share_of_matrix_rate"] >= SHARE_OF_MATRIX_RATE
            ),
            f"{TIMES_EAGER} times the rows of PyTorch, eager, where lengths are mixed": figures[
                "times_eager_mixed"
            ]
            >= TIMES_EAGER,
            f"the bundle agrees with fp32 in {LEAST_AGREEMENT:.1%} of the labels": figures["bundle_agreement"]
            >= LEAST_AGREEMENT,
        }
    report.add("summary", figures)
    return conclude("gpu", figures, promises)


class _Member:
    """The member of random weights, timed in one way after the other."""

    def __init__(
        self, shape: Shape, works: Sequence[Work], reference: Run, seconds: float, report: Report
    ) -> None:
        self.shape, self.works, self.seconds, self.report = shape, works, seconds, report
        self.batches = [work.batch(shape.vocabulary) for work in works]
        self.reference = softmax(reference(self.batches[-1]))
        self.times: Times = {}
        self.parities: dict[str, Parity] = {}

    def time(self, way: str, make: Callable[[], Run]) -> None:
        """Every batch; and whether it is the same model that runs, which random weights tell by their
        probabilities alone."""
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
            self.report.add(way, {"batches": times, "beside eager": parity.model_dump()})


def encoder_of(bundle: Bundle) -> Encoder:
    """How the bundle's first member reads text."""
    encoding = bundle.manifest.members[0].encoding
    return Encoder.from_file(
        bundle.path / encoding.tokenizer, encoding.markers, bundle.manifest.max_length, encoding.pad_token_id
    )


def plan(lengths: Sequence[int], shape: str) -> list[Work]:
    """What is timed; rows of mixed length last."""
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
    limits: Limits, eager: dict[str, Timed], ensemble: dict[str, Timed], works: Sequence[Work], members: int
) -> dict[str, Any]:
    """The ensemble against the matrix rate, and against as many members one after the other in PyTorch."""
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


def table(limits: Limits, times: Times, ensemble: dict[str, Timed], members: int) -> str:
    """Markdown: rows a second and the share of the matrix rate, batch by batch."""
    ways = {**times, f"ensemble of {members}": ensemble}
    lines = [f"| rows × tokens | {' | '.join(ways)} |", "| --- |" + " --- |" * len(ways)]
    for name in ensemble:
        cells = [way[name] for way in ways.values()]
        lines.append(
            f"| {name} | "
            + " | ".join(
                f"{cell.rows_per_s:.0f}/s, {(cell.tflops or 0) / limits.tflops:.0%}" for cell in cells
            )
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
