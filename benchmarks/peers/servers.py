"""The servers of the comparison: what each is called, how it is configured, and how it is started and
stopped."""

import contextlib
import http.client
import json
import os
import signal
import socket
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
from benchmarks.peers.load import HOST
from benchmarks.peers.work import BOUNDED, ROUTE, Setup
from loadtest.sentences import Row
from loadtest.server import leaving_on_sigterm

MAX_WAIT_MS: Final = 2
START_TIMEOUT_S: Final = 120
STOP_TIMEOUT_S: Final = 20
# after the first answer: a tool's other workers load at the same time and may be a little later
SETTLE_S: Final = 2


class StartFailed(RuntimeError):
    """A server did not come to answer; the message is the end of its log."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of the comparison.

    Attributes:
        name: on the command line.
        title: its name for people.
        module: what `python -m` runs.
        package: the distribution whose version is reported; `None` for ours.
        environment: of its packages, with its requirements; by default its name.
        batches: whether it forms batches.
        takes_list: whether a request holds a list of rows.
        switches: environment variables that turn reports to its makers off and its documented optimisations
            on.
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
    """A peer and how it uses the cores; for our own server its defaults, so the rest stays 0."""

    peer: str
    batch: int = 0
    workers: int = 0
    threads: int = 0

    def __str__(self) -> str:
        if self.peer == "ours":
            return "defaults"
        split = f"{self.workers} worker{'s' * (self.workers > 1)} of {self.threads} thread{'s' * (self.threads > 1)}"
        return f"batch {self.batch}, {split}" if PEERS[self.peer].batches else split


@contextmanager
def running(configuration: Configuration, bundle: Path, row: Row) -> Iterator[int]:
    """A server in a process group of its own, for as long as the block lasts; gives its port once it has
    answered the row.

    Raises:
        StartFailed: it ended, or did not answer in time.
    """
    peer, port = PEERS[configuration.peer], _free_port()
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
    peer: Peer, configuration: Configuration, port: int, bundle: Path, scratch: str
) -> dict[str, str]:
    """No setting of ours or theirs from outside, and everything they write to disk in a folder that goes
    away."""
    foreign = ("KORE_", "OTEL_", "UVICORN_", "LITSERVE_", "BENTOML_", "MOSEC_", "RAY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": scratch, "HOME": scratch}
    if peer.name == "ours":
        settings = {"KORE_PORT": str(port), "KORE_BUNDLE": str(bundle), "KORE_DRAIN_DELAY_S": "0"}
        settings["KORE_CASCADE_CAUTION"] = "1"  # every member votes, as with the peers
    else:
        settings = Setup(
            port, bundle, configuration.batch, MAX_WAIT_MS, configuration.workers, configuration.threads
        ).environment()
    return inherited | own | settings | peer.switches


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, document: object, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port, document):
            return
        time.sleep(0.2)
    how = "gave no answer" if process.poll() is None else f"ended with status {process.returncode}"
    raise StartFailed(f"{how}\n{log.read_text(errors='replace')[-2000:]}")


def _answers(port: int, document: object) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("POST", ROUTE, json.dumps(document), {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, politely first, and everything it started: some of these tools leave their workers
    behind."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # Ray gives some of its processes groups of their own; psutil kills no other process that got an old
    # number
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
