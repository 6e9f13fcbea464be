"""Ensembles in the serving code: batch by batch, then over HTTP."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bare_sessions import EVERY_MEMBER
from benchmarks.gpu.member import Shape
from benchmarks.gpu.work import BatchWork, Timed
from engine.cores import available_cores
from engine.lanes import Lanes
from engine.split import Split
from export.proof import GOLDEN_ROWS, golden_examples, machine, provider, with_golden_and_quality
from loadtest.sentences import Row
from loadtest.server import running
from loadtest.traffic import make_requests, measure
from models.bundle import FORMAT_VERSION, Bundle, Manifest, Member, ModelFile, Parity, Source, write
from models.encoding import Encoded
from models.ensemble import EncodedExample
from models.labels import RELATIONS
from models.precision import Device, Precision
from models.rows import read_labelled


@dataclass(frozen=True, slots=True)
class ProvenGraph:
    """A member's graph for a device, its fused operators by kind, and its proof."""

    path: Path
    device: Device
    shape: Shape
    fusions: dict[str, int]
    parity: Parity

    @property
    def precision(self) -> Precision:
        """As the manifest names it."""
        if self.device == "cpu":
            return "fp32"
        return "fp16-packed" if self.path.stem == "packed" else "fp16"


def make_bundle(folder: Path, graph: ProvenGraph, members: int, like: Bundle) -> Bundle:
    """A bundle of equal members, each with its own file; its tokenizer is that of `like`."""
    encoding = like.manifest.members[0].encoding
    (folder / encoding.tokenizer).parent.mkdir(parents=True)
    (folder / encoding.tokenizer).write_bytes((like.path / encoding.tokenizer).read_bytes())
    found = []
    for number in range(1, members + 1):
        path = folder / "members" / str(number) / graph.path.name
        path.parent.mkdir(parents=True)
        path.hardlink_to(graph.path)
        file = ModelFile(
            path=path.relative_to(folder).as_posix(),
            device=graph.device,
            precision=graph.precision,
            fusions=graph.fusions,
            parity=graph.parity,
            machine=machine(provider(graph.device)),
        )
        found.append(
            Member(name=str(number), weight=1, layers=graph.shape.layers, encoding=encoding, files=[file])
        )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="random-weights",
        labels=list(RELATIONS),
        max_length=like.manifest.max_length,
        voting="weighted_mean_probability",
        members=found,
        golden={},
        quality={},
        source=Source(encoder="random weights", data="none", licences=[]),
    )
    rows = read_labelled(GOLDEN_ROWS)
    write(
        folder,
        with_golden_and_quality(folder, manifest, [graph.device], golden_examples(), GOLDEN_ROWS, rows),
    )
    return Bundle.open(folder)


def time_batches(
    bundle: Bundle, device: Device, works: Sequence[BatchWork], shape: Shape | None, seconds: float
) -> dict[str, Timed]:
    """Each batch through every member, from token ids to the vote."""
    split = Split(1, threads=available_cores() if device == "cpu" else 1)
    ensemble = Lanes.load(bundle, device, split, EVERY_MEMBER).ensemble
    timed = {}
    for work in works:
        batch = work.batch(vocabulary=64)  # ids of every tokenizer
        rows = [
            EncodedExample((Encoded(ids[:length], positions),) * ensemble.encodings)
            for ids, positions, length in zip(
                batch.input_ids, batch.entity_positions, work.lengths, strict=True
            )
        ]
        operations = None
        if shape is not None:
            operations = len(bundle.manifest.members) * work.operations(
                shape.layers, shape.hidden, shape.intermediate
            )
        timed[work.name] = Timed.measure(lambda rows=rows: ensemble.run(rows), work, operations, seconds)  # type: ignore[misc]
    return timed


def time_http(
    bundle: Path,
    device: Device,
    rows: Sequence[Row],
    connections: Sequence[int],
    seconds: float,
    **settings: object,
) -> list[dict[str, Any]]:
    """A closed loop of requests of one row each, at each number of connections."""
    with running(bundle, device=device, max_queue=10_000, **settings) as server:
        requests = make_requests(server.port, rows)
        found = [asdict(measure(server.port, requests, number, 2, seconds)) for number in connections]
    return [
        {name: value for name, value in each.items() if name not in ("labels", "relabelled")}
        for each in found
    ]
