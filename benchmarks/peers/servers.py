"""The servers of the comparison: their names, their configurations, and how they start and stop."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from benchmarks.peers.environments import ROOT, python_of
from benchmarks.peers.setup import BOUNDED, ROUTE, PeerSetup
from loadtest.sentences import Row
from loadtest.server import StartFailed, answers, free_port, leaving_on_sigterm
from models.hub import BundlePlace

MAX_WAIT_MS: Final = 2
START_TIMEOUT_S: Final = 120
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
        takes_list: whether a request holds a list of rows.
        switches: environment variables that turn off reports to its makers and turn on its documented
            optimisations.
    """

    name: str
    title: str
    module: str
    package: str | None
    environment: str = ""
    batches: bool = True
    takes_list: bool = False
    switches: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter that runs it; as `python_of`."""
        return Path(sys.executable) if self.name == "ours" else python_of(self.environment or self.name)

    def document(self, row: Row) -> object:
        """The body of a request for one row."""
        return {"rows": [row]} if self.takes_list else row


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("ours", "KoRE Serve", "api", package=None),
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
            takes_list=True,
            switches={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Peer("mosec", "mosec", "benchmarks.peers.mosec_server", "mosec"),
        Peer(
            "ray",
            "Ray Serve",
            "benchmarks.peers.ray_server",
            "ray",
            switches={"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
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
        if self.peer == "ours":
            return "defaults"
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        split = f"{workers} of {self.threads} thread{'s' * (self.threads > 1)}"
        return f"batch {self.batch}, {split}" if PEERS[self.peer].batches else split


@contextmanager
def running(configuration: Configuration, bundle: BundlePlace, row: Row) -> Iterator[int]:
    """A server in a process group of its own during the block; gives its port once it has answered the row.

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
            _wait_for_answer(process, port, peer.document(row), Path(log.name))
            time.sleep(SETTLE_S)
            yield port
        finally:
            _stop(process)


def _environment(
    peer: Peer, configuration: Configuration, port: int, bundle: BundlePlace, scratch: str
) -> dict[str, str]:
    """No setting from outside; everything that a server writes goes to a temporary folder."""
    foreign = ("KORE_", "OTEL_", "UVICORN_", "LITSERVE_", "BENTOML_", "MOSEC_", "RAY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": scratch, "HOME": scratch}
    if peer.name == "ours":
        settings = {"KORE_PORT": str(port), "KORE_BUNDLE": str(bundle), "KORE_DRAIN_DELAY_S": "0"}
        settings["KORE_CASCADE_CAUTION"] = "1"  # every member votes, as in the peers
    else:
        settings = PeerSetup(
            port, bundle, configuration.batch, MAX_WAIT_MS, configuration.workers, configuration.threads
        ).environment()
    return inherited | own | settings | peer.switches


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, document: object, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if answers(port, "POST", ROUTE, document):
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
