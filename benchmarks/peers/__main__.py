"""KoRE Serve beside general model servers: python -m benchmarks.peers

Every server runs the same graphs on the same cores behind its own HTTP and its own batching, one server at a
time. Rounds alternate between them, since a machine's speed drifts more in an hour than some of them differ;
what counts is the median over the rounds.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.environments import ROOT, InstallFailed, versions
from benchmarks.peers.load import Measurement, build_request, measure
from benchmarks.peers.plot import chart
from benchmarks.peers.report import (
    CONNECTIONS,
    Kind,
    Standing,
    agreement,
    comparable,
    judge,
    merge_labels,
    summarise,
    table,
)
from benchmarks.peers.servers import PEERS, Configuration, StartFailed, running
from benchmarks.peers.work import ROUTE
from engine.cores import available_cores
from loadtest.sentences import Row, make_long_rows
from loadtest.verdict import conclude

SCAN_BATCHES: Final = (1, 4, 16)
SCAN_CONNECTIONS: Final = 16
USUAL_BATCH: Final = 16
OURS: Final = Configuration("ours")


@dataclass(frozen=True, slots=True)
class Window:
    """How long one measurement takes, in seconds."""

    warmup: float
    counted: float


@dataclass(slots=True)
class Bench:
    """What is measured with, and what came of it."""

    bundle: Path
    rows: Sequence[Row]
    measurements: dict[Configuration, list[Measurement]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[Configuration, list[str]] = field(default_factory=lambda: defaultdict(list))

    def run(self, configuration: Configuration, levels: Sequence[int], window: Window) -> list[Measurement]:
        """Start a server, drive it at each number of connections, stop it. Nothing but a note if it does not
        start."""
        peer, done = PEERS[configuration.peer], []
        try:
            with running(configuration, self.bundle, self.rows[0]) as port:
                requests = [build_request(port, ROUTE, peer.document(row)) for row in self.rows]
                done = [
                    measure(port, requests, connections, window.warmup, window.counted)
                    for connections in levels
                ]
        except StartFailed as failure:
            print(f"{peer.title}, {configuration}: {failure}", file=sys.stderr)
            self.failures[configuration].append(str(failure))
        rates = "  ".join(f"{one.connections}: {one.rps:.1f}{_trouble(one)}" for one in done)
        print(f"  {peer.title}, {configuration}: requests/s at {rates}", file=sys.stderr)
        return done

    def scan(self, peer: str, cores: int, window: Window) -> dict[Configuration, float]:
        """Requests a second of a peer's batch sizes and splits of the cores."""
        candidates = [
            Configuration(peer, batch, *split) for batch in SCAN_BATCHES for split in _splits(cores)
        ]
        rates = {}
        for configuration in candidates:
            for measurement in self.run(configuration, [SCAN_CONNECTIONS], window):
                rates[configuration] = measurement.rps
        return rates

    def standing(self, kind: Kind, configuration: Configuration) -> Standing:
        """Where a server stands, beside ours."""
        labels, relabelled = merge_labels(self.measurements[configuration])
        reference, _ = merge_labels(self.measurements[OURS])
        return Standing(
            kind=kind,
            title=PEERS[configuration.peer].title,
            configuration=str(configuration),
            figures=summarise(self.measurements[configuration]),
            agreement=agreement(labels, reference),
            relabelled=relabelled,
            failures=self.failures[configuration],
        )


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    cores, peers = available_cores(), arguments.only
    try:
        installed = {peer: versions(PEERS[peer].python) for peer in peers}
    except InstallFailed as failure:
        print(failure, file=sys.stderr)
        return 2
    if len({found["onnxruntime"] for found in installed.values()}) > 1:
        print(
            "the environments hold different versions of ONNX Runtime: nothing measured would compare the servers",
            file=sys.stderr,
        )
        return 2

    document = _circumstances(arguments, installed, cores)
    bench = Bench(arguments.bundle, arguments.rows)
    window = Window(arguments.warmup, arguments.seconds)
    scans: dict[str, dict[Configuration, float]] = {}
    if not arguments.short:
        for peer in (peer for peer in peers if PEERS[peer].batches and peer != "ours"):
            print(f"scan of {PEERS[peer].title}", file=sys.stderr)
            scans[peer] = bench.scan(peer, cores, Window(arguments.warmup, arguments.seconds / 2))
    places = _places(peers, cores, scans)
    servers = list(dict.fromkeys(configuration for _, configuration in places))

    document["scans"] = [asdict(one) | {"rps": rps} for rates in scans.values() for one, rps in rates.items()]
    document["rounds"] = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        shift = number % len(servers)
        # nobody is always first, or always after the same one
        for configuration in servers[shift:] + servers[:shift]:
            done = bench.run(configuration, CONNECTIONS, window)
            bench.measurements[configuration] += done
            document["rounds"] += [
                {"round": number + 1, **asdict(configuration), **_without_labels(one)} for one in done
            ]

    standings = [bench.standing(kind, configuration) for kind, configuration in places]
    gates = judge(standings)
    document["standings"] = [asdict(standing) for standing in standings]
    document["gates"] = [{"gate": str(gate), "ratio": gate.ratio, "holds": gate.holds} for gate in gates]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    (arguments.output / "table.md").write_text(table(standings, gates) + f"\n{_versions_line(installed)}\n")
    (arguments.output / "plot.svg").write_text(chart(standings))
    print(table(standings, []), file=sys.stderr)
    return conclude(
        "peers", _summary(standings), {str(gate): gate.holds for gate in gates} | comparable(standings)
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        default=ROOT / "bundles" / "default",
        help="the ensemble that all of them serve",
    )
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSON lines; by default $KLUE_RE_DATA/validation.jsonl, else sentences of our own",
    )
    parser.add_argument("--only", default=",".join(PEERS), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, help="by default 3")
    parser.add_argument("--seconds", type=float, help="counted in one measurement, by default 15")
    parser.add_argument(
        "--short",
        action="store_true",
        help="1 round of 4 seconds each, no scan: to see that everything works",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "peers")
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (1 if arguments.short else 3)
    arguments.seconds = arguments.seconds or (4 if arguments.short else 15)
    arguments.warmup = 1 if arguments.short else 3
    arguments.bundle = arguments.bundle.resolve()  # servers run in the project's root
    arguments.only = arguments.only.split(",")
    if unknown := [name for name in arguments.only if name not in PEERS]:
        parser.error(f"--only knows {', '.join(PEERS)}, not {', '.join(unknown)}")
    if arguments.rows is None and "KLUE_RE_DATA" in os.environ:
        arguments.rows = Path(os.environ["KLUE_RE_DATA"]) / "validation.jsonl"
    arguments.source = arguments.rows.name if arguments.rows else "loadtest.sentences.make_long_rows"
    arguments.rows = (
        [json.loads(line) for line in arguments.rows.open()] if arguments.rows else make_long_rows(600)
    )
    return arguments


def _splits(cores: int) -> list[tuple[int, int]]:
    """Workers and threads of each: one with all cores, and one a core."""
    return list(dict.fromkeys([(1, cores), (cores, 1)]))


def _places(
    peers: Sequence[str], cores: int, scans: dict[str, dict[Configuration, float]]
) -> list[tuple[Kind, Configuration]]:
    """Who takes part, and as what. A peer whose best is its usual configuration stands there twice and runs
    once."""
    places: list[tuple[Kind, Configuration]] = []
    for peer in peers:
        if peer == "ours":
            places.append(("ours", OURS))
        elif not PEERS[peer].batches:
            kind: Kind = "plain" if peer == "plain" else "bounded"
            places += [(kind, Configuration(peer, 1, *split)) for split in _splits(cores)]
        else:
            places.append(("batch 16", Configuration(peer, USUAL_BATCH, 1, cores)))
            rates = scans.get(peer)
            if rates:
                places.append(("best", max(rates, key=lambda configuration: rates[configuration])))
    return places


def _circumstances(
    arguments: argparse.Namespace, installed: dict[str, dict[str, str]], cores: int
) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": cores,
            "system": platform.system(),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
        },
        "settings": {
            "bundle": arguments.bundle.name,
            "rows": arguments.source,
            "row_count": len(arguments.rows),
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "warmup": arguments.warmup,
        },
        "versions": installed,
    }


def _versions_line(installed: dict[str, dict[str, str]]) -> str:
    packages = {
        package: found[package] for peer, found in installed.items() if (package := PEERS[peer].package)
    }
    runtime = next(iter(installed.values()))["onnxruntime"]
    return (
        ", ".join(f"{package} {version}" for package, version in packages.items())
        + f"; all on onnxruntime {runtime}."
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _commit() -> str | None:
    """The commit that was measured, with a plus where the working tree differs from it; `None` outside a
    repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    return done.stdout.strip() or None


def _without_labels(measurement: Measurement) -> dict[str, Any]:
    document = asdict(measurement)
    del document["labels"]
    return document


def _trouble(measurement: Measurement) -> str:
    return f" (errors: {measurement.errors})" if measurement.errors else ""


def _summary(standings: Sequence[Standing]) -> dict[str, Any]:
    return {
        "requests_per_second": {
            f"{one.title}, {one.configuration}": {
                level: round(figures.rps, 1) for level, figures in one.figures.items()
            }
            for one in standings
        },
        "p99_ms_at_16": {
            f"{one.title}, {one.configuration}": one.figures[16].p99_ms and round(one.figures[16].p99_ms, 1)
            for one in standings
            if 16 in one.figures
        },
        "same_relation_as_ours": {f"{one.title}, {one.configuration}": one.agreement for one in standings},
        "generator_cpu_ms": max(
            (f.generator_cpu_ms or 0 for one in standings for f in one.figures.values()), default=None
        ),
        "errors": sum(sum(f.errors.values()) for one in standings for f in one.figures.values()),
    }


if __name__ == "__main__":
    sys.exit(main())
