"""KoRE Serve and general model servers: python -m benchmarks.peers

Every server runs the same graphs on the same cores with its own HTTP and its own batching, one server at a
time.

1. Scan the batch sizes and splits of the cores of each peer that batches, to find its best configuration.
2. Measure all servers in rounds, each round in another order, because a machine's speed drifts.
3. Take medians over the rounds, and compare ours with each server's by the rules of report.py.
4. Write results.json, table.md and plot.svg. With `--output benchmarks/measured/peers` (or `…/overhead`),
   `python -m docs.generate` copies the table into docs/performance.md and `python -m docs.plots` the picture.

`--overhead` compares what each server costs by itself: its bundle must cost nothing.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill
from typing import Any, Final

from benchmarks.peers.classifier import write_classifier
from benchmarks.peers.comparison import Durations, PeerBench, places
from benchmarks.peers.environments import ROOT, versions
from benchmarks.peers.plot import draw
from benchmarks.peers.report import (
    CONNECTIONS,
    Standing,
    comparable,
    gate_table,
    judge,
    name_configuration,
    table,
)
from benchmarks.peers.servers import PEERS, Configuration
from benchmarks.rows import add_rows, draw_rows, readable
from engine.cores import available_cores
from loadtest.command import add_bundle, add_output, conclude, make_parser, write_json

OVERHEAD_PEERS: Final = ("ours", "fronts", "plain", "litserve", "bentoml", "mosec", "ray", "triton")


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """The servers to compare, and how.

    Attributes:
        scan: look for each peer's best configuration first.
        scanned: results.json of an earlier comparison, whose scan is used instead.
        overhead: the models cost nothing.
        output: folder of the results; its name is the name of the table.
        command: that was typed.
    """

    peers: list[str]
    levels: list[int]
    rounds: int
    durations: Durations
    scan: bool
    scanned: Path | None
    overhead: bool
    output: Path
    command: str


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.peers", "Compare KoRE Serve with general model servers.", "--short --only ours,plain"
    )
    add_bundle(parser)
    add_rows(parser, count=300)
    usual = [name for name, peer in PEERS.items() if not peer.classifies and name != "fronts"]
    parser.add_argument(
        "--only",
        metavar="SERVERS",
        help=f"servers to compare (default: {','.join(usual)}; with --overhead {','.join(OVERHEAD_PEERS)}); "
        "infinity and vllm download over 1 GB each",
    )
    parser.add_argument(
        "--overhead",
        action="store_true",
        help="the --bundle costs nothing (make runs/tiny/bundle): compare what each server costs by itself",
    )
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="CHECKPOINT",
        default=Path("recipes/default/trunk-fp16"),
        help="weights of the plain classifier of infinity and vLLM (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, help="measurements of each server (default: 3)")
    parser.add_argument("--seconds", type=float, help="seconds of one measurement (default: 15)")
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        choices=CONNECTIONS,
        default=list(CONNECTIONS),
        help="connections at a time (default: 1 16 64)",
    )
    parser.add_argument("--no-scan", action="store_true", help="only batches of 16, no search for the best")
    parser.add_argument(
        "--scanned", type=Path, metavar="RESULTS", help="results.json with the scan of an earlier comparison"
    )
    parser.add_argument("--short", action="store_true", help="1 round of 4 seconds without a scan")
    add_output(parser, "peers")
    arguments = parser.parse_args(argv)
    if arguments.overhead and not arguments.bundle:
        parser.error("--overhead needs a --bundle that costs nothing: make runs/tiny/bundle")
    peers = arguments.only.split(",") if arguments.only else OVERHEAD_PEERS if arguments.overhead else usual
    if unknown := [name for name in peers if name not in PEERS]:
        parser.error(f"--only: unknown {', '.join(unknown)}; choose from {', '.join(PEERS)}")
    seconds = arguments.seconds or (4 if arguments.short else 15)
    options = PeerOptions(
        peers=list(peers),
        levels=arguments.connections,
        rounds=arguments.rounds or (1 if arguments.short else 3),
        durations=Durations(min(3, seconds / 2), seconds),
        scan=not (arguments.short or arguments.no_scan or arguments.scanned),
        scanned=arguments.scanned,
        overhead=arguments.overhead,
        output=arguments.output,
        command=shlex.join(["python", "-m", "benchmarks.peers", *(sys.argv[1:] if argv is None else argv)]),
    )
    from engine.settings import DEFAULT_BUNDLE  # slow to import, and not needed for --help

    try:
        installed = {peer: versions(PEERS[peer].python) for peer in peers}
    except subprocess.CalledProcessError as error:
        print(f"benchmarks.peers: pip failed with status {error.returncode}, see above", file=sys.stderr)
        return 2
    except FileNotFoundError as error:
        fault = f"{error.filename} is missing; install it, or choose other servers with --only"
        print(f"benchmarks.peers: {fault}", file=sys.stderr)
        return 2
    if len({runtime for found in installed.values() if (runtime := found.get("onnxruntime"))}) > 1:
        fault = "the environments have different versions of onnxruntime, so their figures do not compare"
        remedy = "write the version of constraints.txt into benchmarks/peers/requirements"
        print(f"benchmarks.peers: {fault}; {remedy}", file=sys.stderr)
        return 2
    bundle = arguments.bundle or DEFAULT_BUNDLE
    rows = readable(bundle, draw_rows(arguments.rows, arguments.count))
    with tempfile.TemporaryDirectory(prefix="classifier-") as folder:
        if any(PEERS[peer].classifies for peer in peers):
            write_classifier(arguments.classifier, Path(folder))
        bench = PeerBench(bundle, Path(folder), rows)
        return compare(bench, options, installed)


def compare(bench: PeerBench, options: PeerOptions, installed: dict[str, dict[str, str]]) -> int:
    """Scan, measure, judge and write the results; returns 0 if every gate holds, else 1."""
    cores, durations = available_cores(), options.durations
    document: dict[str, Any] = describe_machine(cores) | {
        "command": options.command,
        "settings": {"rows": len(bench.rows), "rounds": options.rounds, **asdict(durations)},
        "versions": name_versions(installed),
    }
    scans = read_scans(options.scanned) if options.scanned else {}
    if options.scan:
        half = Durations(durations.warmup / 2, durations.counted / 2)
        batching = [peer for peer in options.peers if PEERS[peer].batches and PEERS[peer].package]
        scans = {peer: bench.scan(peer, cores, half) for peer in batching}
    compared = places(options.peers, cores, scans, options.overhead)
    document["scans"] = [asdict(one) | {"rps": rps} for rates in scans.values() for one, rps in rates.items()]
    servers = [configuration for _, configuration in compared]
    document["rounds"] = measure_rounds(bench, servers, options)
    standings = [bench.standing(kind, configuration) for kind, configuration in compared]
    gates = judge(standings, options.levels, options.overhead)
    document["standings"] = [asdict(standing) for standing in standings]
    document["gates"] = [{"gate": str(gate), "ratio": gate.ratio, "holds": gate.holds} for gate in gates]
    write_json(options.output / "results.json", document)
    tables = [table(standings, options.output.name), *([gate_table(gates)] if gates else [])]
    (options.output / "table.md").write_text("\n".join([describe(document), *tables]), encoding="utf-8")
    draw(standings, options.output / "plot.svg")
    print(tables[0], file=sys.stderr)
    promises = {str(gate): gate.holds for gate in gates} | comparable(standings)
    return conclude("peers", summary(standings), promises)


def read_scans(path: Path) -> dict[str, dict[Configuration, float]]:
    """The scan in a results.json: requests a second of each peer's configurations."""
    scans = defaultdict[str, dict[Configuration, float]](dict)
    for one in json.loads(path.read_text(encoding="utf-8"))["scans"]:
        rps = one.pop("rps")
        scans[one["peer"]][Configuration(**one)] = rps
    return scans


def describe(document: dict[str, Any]) -> str:
    """Markdown above the table: the command, the machine and the versions."""
    machine, settings = document["machine"], document["settings"]
    rounds = f"{settings['rounds']} round{'s' * (settings['rounds'] > 1)}"
    told = (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']:.1f} "
        f"before the start; {document['date'][:10]}, commit {document['commit']}. Medians of {rounds} of "
        f"{settings['counted']:g} s for each server and number of connections, {settings['rows']} rows. "
        f"{document['versions']}"
    )
    return f"```\n{document['command']}\n```\n\n{fill(told, 100, break_on_hyphens=False)}\n"


def measure_rounds(
    bench: PeerBench, servers: Sequence[Configuration], options: PeerOptions
) -> list[dict[str, Any]]:
    """Every server once a round, each round in another order and from another row on."""
    order, document = list(dict.fromkeys(servers)), list[dict[str, Any]]()
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        shift, first = number % len(order), number * len(bench.rows) // options.rounds
        for configuration in order[shift:] + order[:shift]:
            done = bench.run(configuration, options.levels, options.durations, first)
            bench.measurements[configuration] += done
            for one in done:
                fields = asdict(one)
                del fields["labels"]
                document.append({"round": number + 1, **asdict(configuration), **fields})
    return document


def describe_machine(cores: int) -> dict[str, Any]:
    """The date, the commit (with a plus for changed files) and the machine."""
    describe = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    commit = subprocess.run(describe, cwd=ROOT, text=True, capture_output=True, check=False).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or None,
        "machine": {
            "processor": models[0] if models else platform.machine(),
            "cores": cores,
            "system": platform.system(),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
        },
    }


def name_versions(installed: dict[str, dict[str, str]]) -> str:
    """One line with the version of each peer."""
    packages = {
        package: found[package] for peer, found in installed.items() if (package := PEERS[peer].package)
    }
    runtime = next((found["onnxruntime"] for found in installed.values() if "onnxruntime" in found), "none")
    named = ", ".join(f"{package} {version}" for package, version in packages.items())
    return f"{named}; all on onnxruntime {runtime}."


def summary(standings: Sequence[Standing]) -> dict[str, Any]:
    """The figures for the last line of stdout."""
    named = {f"{one.title}, {name_configuration(one)}": one for one in standings}
    levels = [level for one in standings for level in one.figures.values()]
    return {
        "requests_per_second": {
            name: {connections: round(level.rps, 1) for connections, level in one.figures.items()}
            for name, one in named.items()
        },
        "p99_ms_at_16": {name: one.figures[16].p99_ms for name, one in named.items() if 16 in one.figures},
        "same_relation_as_ours": {name: one.agreement for name, one in named.items()},
        "generator_cpu_ms": max((level.generator_cpu_ms or 0 for level in levels), default=None),
        "errors": sum(sum(level.errors.values()) for level in levels),
    }


if __name__ == "__main__":
    sys.exit(main())
