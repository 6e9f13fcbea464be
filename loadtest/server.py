"""A server in a process of its own, for as long as a trial lasts."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


READY_TIMEOUT_S = 180.0

KEPT = "KORE_HTTP_PROCESSES"
"""The only setting that a trial takes from the environment: every trial holds with front processes too."""


class StartFailed(RuntimeError):
    """A server ended, or was not ready in time; the message is the end of its log."""


class ServerProcess:
    """A real server in a process of its own, on a port of its own. A thread reads its log: a full pipe would
    stop the server."""

    def __init__(
        self, bundle: Path | str | None, module: str, root: Path, settings: dict[str, object]
    ) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KORE_")}
        if KEPT in os.environ:
            environment[KEPT] = os.environ[KEPT]
        environment |= {"KORE_DRAIN_DELAY_S": "0"}
        environment |= {
            key if key.startswith("OTEL_") else f"KORE_{key.upper()}": str(value)
            for key, value in settings.items()
        }
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", module, "--port", str(self.port)]
        command += ["--bundle", str(bundle)] if bundle else []
        self.process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        import httpx  # slow to import, and not needed for --help

        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.log: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Ask `/ready` until it answers 200.

        Raises:
            StartFailed: the process ended, or was not ready after `READY_TIMEOUT_S`.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if answers(self.port, "GET", "/ready"):
                return
            time.sleep(0.1)
        if self.process.poll() is not None:
            self._reader.join(timeout=60)  # until the last line is in the log
        raise StartFailed(f"the server was not ready; its log:\n{''.join(self.log)}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grown:
                self.log.append(line)
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()

    def logged(self, words: str) -> str:
        """The message of the first log line with these words; waits for it."""

        def found() -> str | None:
            return next((line for line in self.log if words in line), None)

        with self._grown:
            self._grown.wait_for(
                lambda: found() or not self._reader.is_alive() or self.process.poll() is not None, timeout=180
            )
            line = found()
        assert line is not None, f"no {words!r} in the log:\n{''.join(self.log)}"
        return str(json.loads(line)["message"])

    def order(self, words: str) -> str:
        """Give a `loadtest.faulty_server` an order; returns its reply, which says that the order is in
        effect."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(words + "\n")
        stdin.flush()
        return stdout.readline().strip()

    def metric(self, name: str) -> float:
        """The value of a metric in `/metrics`, or the sum over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def memory_mb(self) -> float:
        """Resident memory of all the server's processes, in MB: with front processes there are several."""
        import psutil

        first, total = psutil.Process(self.process.pid), 0
        for one in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                total += one.memory_info().rss
        return total / 1e6

    def close(self) -> None:
        """End the process at once, if it has not ended, and let go of its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=60)
        self.client.close()
        self._reader.join(timeout=60)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def stop(self) -> int:
        """Send SIGTERM; returns the exit status."""
        self.client.close()
        self.process.terminate()
        return self.process.wait(timeout=60)


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """SIGTERM leaves the block as SystemExit, so that processes started in it are stopped. Does nothing if
    SIGTERM already has a handler."""
    has_none = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not has_none:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def free_port() -> int:
    """A port of the loopback that no process uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int, method: str, path: str, document: object = None) -> bool:
    """Whether a server on the loopback answers one request with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, json.dumps(document), {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def starting(
    bundle: Path | str | None = None, module: str = "api", root: Path = ROOT, **settings: object
) -> Iterator[ServerProcess]:
    """A server that was started, and is perhaps not ready yet; arguments as `running`."""
    with leaving_on_sigterm():
        server = ServerProcess(bundle, module, root, settings)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def running(
    bundle: Path | str | None = None, module: str = "api", root: Path = ROOT, **settings: object
) -> Iterator[ServerProcess]:
    """A server that is ready.

    Args:
        bundle: folder or hf:// address to serve; None leaves the choice to the server.
        module: that `python -m` runs in `root`.
        settings: those of `KORE_*`; names that begin with `OTEL_` are passed as they are.

    Raises:
        StartFailed: it did not get ready.
    """
    with starting(bundle, module, root, **settings) as server:
        server.wait_until_ready()
        yield server
