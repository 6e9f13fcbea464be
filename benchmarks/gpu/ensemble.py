"""Ensembles through the code that serves: batch by batch, then over HTTP."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.member import Shape
from benchmarks.gpu.work import Timed, Work
from benchmarks.peers.load import build_request, measure
from engine.cores import available_cores
from engine.lanes import Lanes
from engine.split import Split
from export.proof import GOLDEN_ROWS, golden_examples, machine, provider, with_golden_and_quality
from loadtest.sentences import Row
from loadtest.server import running
from models.bundle import FORMAT_VERSION, Bundle, Manifest, Member, ModelFile, Parity, Source, write
from models.encoding import Encoded
from models.ensemble import EncodedExample
from models.labels import RELATIONS
from models.precision import Device, Precision
from models.rows import read_labelled

EVERY_MEMBER: Final = 1.0
"""`KORE_CASCADE_CAUTION` at which no row stops early: it is batches of all members that are timed."""


def make_bundle(
    folder: Path,
    graph: Path,
    members: int,
    shape: Shape,
    fusions: dict[str, int],
    parity: Parity,
    device: Device,
    like: Bundle,
) -> Bundle:
    """A bundle of equal members, each with a file of its own, that reads text as another bundle does."""
    encoding = like.manifest.members[0].encoding
    (folder / encoding.tokenizer).parent.mkdir(parents=True)
    (folder / encoding.tokenizer).write_bytes((like.path / encoding.tokenizer).read_bytes())
    precision: Precision = "fp32" if device == "cpu" else "fp16-packed" if graph.stem == "packed" else "fp16"
    found = []
    for number in range(1, members + 1):
        path = folder / "members" / str(number) / graph.name
        path.parent.mkdir(parents=True)
        path.hardlink_to(graph)
        file = ModelFile(
            path=path.relative_to(folder).as_posix(),
            device=device,
            precision=precision,
            fusions=fusions,
            parity=parity,
            machine=machine(provider(device)),
        )
        found.append(Member(name=str(number), weight=1, layers=shape.layers, encoding=encoding, files=[file]))
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
    examples = golden_examples()
    write(
        folder,
        with_golden_and_quality(
            folder, manifest, [device], examples, GOLDEN_ROWS, read_labelled(GOLDEN_ROWS)
        ),
    )
    return Bundle.open(folder)


def time_batches(
    bundle: Bundle, device: Device, works: Sequence[Work], shape: Shape | None, seconds: float
) -> dict[str, Timed]:
    """Each batch through every member, from token ids to the vote."""
    split = Split(1, threads=available_cores() if device == "cpu" else 1)
    ensemble = Lanes.load(bundle, device, split, EVERY_MEMBER).ensemble
    timed = {}
    for work in works:
        batch = work.batch(vocabulary=64)  # ids that every bundle knows
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
    """Requests of one row each, in a closed loop, to a server with its own settings."""
    with running(bundle, device=device, max_queue=10_000, **settings) as server:
        requests = [build_request(server.port, "/relations", row) for row in rows]
        found = [
            asdict(measure(server.port, requests, number, warmup=2, seconds=seconds))
            for number in connections
        ]
    return [
        {name: value for name, value in each.items() if name not in ("labels", "relabelled")}
        for each in found
    ]
