"""Ray on this machine, scaled and killed under load: python -m benchmarks.cluster

The server (api/cluster.py), on a head without cores and two worker nodes of one core each, as the manifests
have it. Callers send one request after another all the time:

1. Few callers, then many: Ray Serve must start a second replica.
2. SIGKILL to a replica, to the front door, and to a worker node, for which a new node joins at once. Each
   time wait until two replicas serve.
3. Few callers again: the second replica must leave.

Then the files (scoring/cluster.py): the same files scored twice, once with SIGKILL to a worker. The outputs
must hold the same rows and relations, and every probability within 1e-6. They are the same bytes only if both
workers cut the same batches: each measures its own costs.

For each step it prints the results by status, the seconds until the last failed answer, and the seconds until
all is well.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from loadtest.command import bundle_folder, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.outcomes import RIGHT, Outcome, by_result
from loadtest.sentences import make_long_rows
from loadtest.server import ROOT, answers, free_port
from loadtest.traffic import LOOPBACK, closed_loop

FEW, MANY = 4, 48
"""Callers. Ray Serve adds a replica above 16 requests for each core of those that run."""
CALM_S: Final = 10.0
"""Of load before each step, and after it."""
LIMIT_S: Final = 300.0
"""After which a step counts as hanging."""
REPLICA, DOOR, SCORER = "ServeReplica:", "ray::ProxyActor", "MapWorker"
"""Parts of the names of Ray's processes."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the callers saw.

    Attributes:
        by_status: number of results, from the beginning of the load.
        failing_s: from the event to the last answer that was not 200; 0 without any.
        well_s: from the event until all was well; None if that did not happen within `LIMIT_S`.
        rps: right answers a second in the last `CALM_S`.
    """

    callers: int
    by_status: dict[str, int]
    failing_s: float
    well_s: float | None
    rps: float


class Cluster:
    """The server on a Ray cluster of three nodes on this machine."""

    def __init__(self, bundle: Path) -> None:
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster as Nodes

        from api.cluster import Deployment, build

        self._nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            self._nodes.add_node(num_cpus=1)
        ray.init(address=self._nodes.address, log_to_driver=False, logging_level="ERROR")
        self.port = free_port()
        serve.start(proxy_location="HeadOnly", http_options={"host": LOOPBACK, "port": self.port})
        served = Deployment(
            bundle=bundle, replicas=1, most_replicas=2, cpus=1, upscale_delay_s=5, downscale_delay_s=20
        )
        serve.run(build(served), name="relations", route_prefix="/")

    def close(self) -> None:
        """End all of its processes."""
        import ray

        ray.shutdown()
        self._nodes.shutdown()

    def replicas(self) -> int:
        """How many run, as Ray Serve sees it."""
        from ray import serve

        deployment = serve.status().applications["relations"].deployments["relations"]
        return int(deployment.replica_states.get("RUNNING", 0))

    def well(self, replicas: int, without: int = 0) -> bool:
        """Whether exactly `replicas` run and the front door answers. The killed process `without` does not
        count."""
        running = set(pids(REPLICA)) - {without}
        return (
            len(running) == replicas == self.replicas()
            and bool(set(pids(DOOR)) - {without})
            and answers(self.port, "GET", "/ready")
        )

    def replace_node(self) -> int:
        """Kill a worker node and let another one join; returns the process of the replica that was on it."""
        import psutil

        (replica, *_) = pids(REPLICA)
        raylet = psutil.Process(replica).ppid()
        os.kill(raylet, signal.SIGKILL)
        os.waitpid(raylet, 0)  # the other processes of a node end once it has gone, which a zombie has not
        self._nodes.add_node(num_cpus=1)
        return replica


def pids(name: str) -> list[int]:
    """This process's descendants with this in their name, the oldest first."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if name in "".join(process.cmdline()[:1]):  # a zombie has none
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return [process.pid for process in sorted(found, key=lambda process: process.create_time())]


def kill(name: str) -> int:
    """SIGKILL to the oldest process with this in its name; returns its number."""
    (pid, *_) = pids(name)
    os.kill(pid, signal.SIGKILL)
    return pid


def step(port: int, callers: int, event: Callable[[], int], well: Callable[[int], bool]) -> Step:
    """Let callers send during `CALM_S`, an event, the time until all is well, and `CALM_S` more. The callers
    have a thread of their own: Ray adds nodes in the main thread only.

    Args:
        event: returns the process that it killed, or 0.
        well: whether all is well without that process.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(asyncio.run, send(port, callers, stop))
        try:
            time.sleep(CALM_S)
            began = time.monotonic()
            killed = event()
            well_s = until_well(lambda: well(killed), began)
            time.sleep(CALM_S)
            ended = time.monotonic()
        finally:
            stop.set()
        outcomes = sent.result()
    failed = [outcome.answered_s - began for outcome in outcomes if outcome.result != RIGHT]
    late = [one for one in outcomes if one.result == RIGHT and ended - CALM_S <= one.answered_s < ended]
    return Step(
        callers,
        by_result(outcomes),
        round(max(failed, default=0.0), 1),
        well_s,
        round(len(late) / CALM_S, 1),
    )


async def send(port: int, callers: int, stop: threading.Event) -> list[Outcome]:
    """Callers in a closed loop until `stop`."""
    target, ended = Target(LOOPBACK, port), asyncio.Event()
    requests = [target.post("/relations", row) for row in make_long_rows(1000)]
    async with HttpClient(target) as client:
        loop = asyncio.create_task(closed_loop(client, requests, callers, ended))
        await asyncio.to_thread(stop.wait)
        ended.set()
        return await loop


def until_well(well: Callable[[], bool], began: float) -> float | None:
    """Seconds since `began` until it is so; None after `LIMIT_S`."""
    while (passed := time.monotonic() - began) < LIMIT_S:
        if well():
            return round(passed, 1)
        time.sleep(0.25)
    return None


def serve_under_load(bundle: Path) -> dict[str, Step]:
    """The steps with the server, by name."""
    cluster = Cluster(bundle)
    try:

        def run(callers: int, replicas: int, event: Callable[[], int]) -> Step:
            well = lambda killed: cluster.well(replicas, killed)  # noqa: E731
            return step(cluster.port, callers, event, well)

        steps: dict[str, tuple[int, int, Callable[[], int]]] = {
            "one replica": (FEW, 1, lambda: 0),
            "to two replicas": (MANY, 2, lambda: 0),
            "a replica killed": (MANY, 2, lambda: kill(REPLICA)),
            "the front door killed": (MANY, 2, lambda: kill(DOOR)),
            "a worker node killed": (MANY, 2, cluster.replace_node),
            "back to one replica": (FEW, 1, lambda: 0),
        }
        found = {}
        for name, (callers, replicas, event) in steps.items():
            found[name] = run(callers, replicas, event)
            print(f"{name}: {asdict(found[name])}", file=sys.stderr, flush=True)
        return found
    finally:
        cluster.close()


@contextmanager
def scoring(bundle: Path, rows: Path, output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m scoring.cluster` on a cluster of its own."""
    command = [sys.executable, "-m", "scoring.cluster", str(rows), str(output), "--address", "local"]
    command += ["--bundle", str(bundle), "--cpus", "1", "--window", "100", "--top-k", "30"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def score(bundle: Path, count: int, scratch: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """Score two files twice, the second time with a worker killed after its first finished window."""
    rows = scratch / "rows"
    rows.mkdir()
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in make_long_rows(2 * count)]
    for name, part in (("a", lines[:count]), ("b", lines[count:])):
        (rows / f"{name}.jsonl").write_text("".join(part), encoding="utf-8")
    seconds, statuses, resumed = {}, [], []
    for name in ("alone", "killed"):
        began = time.monotonic()
        with scoring(bundle, rows, scratch / name) as process:
            if name == "killed":
                while process.poll() is None and not list((scratch / name).glob("*.partial.state")):
                    time.sleep(0.05)
                kill(SCORER)
            process.communicate(timeout=2 * LIMIT_S)
            statuses.append(process.returncode)
        seconds[name] = round(time.monotonic() - began, 1)
        summaries = [
            json.loads(path.read_text())["summary"] for path in (scratch / name).glob("*.summary.json")
        ]
        resumed.append(max((summary["resumed_after_rows"] for summary in summaries), default=0))
    alone, killed = ([*read(scratch / name)] for name in ("alone", "killed"))
    same = [row.keys() for row in alone] == [row.keys() for row in killed] and all(
        one["relation"] == other["relation"] for one, other in zip(alone, killed, strict=True)
    )
    furthest = max(
        abs(probability - other["probabilities"][relation])
        for one, other in zip(alone, killed, strict=True)
        for relation, probability in one["probabilities"].items()
    )
    figures = {"rows": 2 * count, "seconds": seconds, "resumed_after_rows": resumed[1]}
    figures |= {"same_bytes": alone == killed, "largest_difference": furthest}
    return figures, {
        "scoring ends with status 0 though a worker is killed": statuses == [0, 0],
        "another worker continues after a finished window": resumed[0] == 0 < resumed[1],
        "the outputs have the same relations, and probabilities within 1e-6": same and furthest <= 1e-6,
    }


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """The predictions of both files."""
    for name in ("a.jsonl", "b.jsonl"):
        yield from map(json.loads, (folder / name).read_text(encoding="utf-8").splitlines())


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("benchmarks.cluster", "Scale and kill a server and scoring on Ray, under load.")
    default = ROOT / "bundles/default"
    parser.add_argument(
        "--bundle", type=bundle_folder, default=default, help="folder (default: the shipped one)"
    )
    parser.add_argument(
        "--rows", type=int, default=1000, help="in each of two files to score (default: 1000)"
    )
    arguments = parser.parse_args(argv)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    # on a busy machine the front door comes later than it waits
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    os.environ.pop("RAY_ADDRESS", None)
    steps = serve_under_load(arguments.bundle)
    with tempfile.TemporaryDirectory() as scratch:
        scored, promises = score(arguments.bundle, arguments.rows, Path(scratch))
    scaled = ("one replica", "to two replicas", "back to one replica")
    promises |= {f"{name}: within {LIMIT_S:.0f} s": found.well_s is not None for name, found in steps.items()}
    promises["scaling fails no request"] = all(steps[name].by_status.keys() == {RIGHT} for name in scaled)
    return conclude(
        "cluster", {"steps": {name: asdict(one) for name, one in steps.items()}, "scoring": scored}, promises
    )


if __name__ == "__main__":
    sys.exit(main())
