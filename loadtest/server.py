"""A server in a process of its own, for as long as a trial lasts."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_BUNDLE = ROOT / "bundles" / "default"


READY_TIMEOUT_S = 180.0


class StartFailed(RuntimeError):
    """A server ended, or was not ready in time; the message is the end of its log."""


class Server:
    """A real server in a process of its own, on a port of its own. A thread reads its log: a full pipe would
    stop the server."""

    def __init__(self, bundle: Path | None, module: str, root: Path, settings: dict[str, object]) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KORE_")}
        environment |= {"KORE_DRAIN_DELAY_S": "0"}
        environment |= {
            key if key.startswith("OTEL_") else f"KORE_{key.upper()}": str(value)
            for key, value in settings.items()
        }
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", module, "--port", str(self.port)]
        command += ["--bundle", str(bundle)] if bundle else []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes)
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
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/ready").status_code == 200:
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
        """The message of the first log line with these words, once it has come."""

        def found() -> str | None:
            return next((line for line in self.log if words in line), None)

        with self._grown:
            self._grown.wait_for(
                lambda: found() or not self._reader.is_alive() or self.process.poll() is not None, timeout=180
            )
            line = found()
        assert line is not None, f"no {words!r} in the log:\n{''.join(self.log)}"
        return str(json.loads(line)["message"])

    def order(self, words: str) -> None:
        """Tell a `loadtest.faulty_server` what to do, and wait until it does."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(words + "\n")
        stdin.flush()
        assert stdout.readline().strip() == words

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
        """End the process politely; returns its exit status."""
        self.client.close()
        self.process.terminate()
        return self.process.wait(timeout=60)


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """SIGTERM leaves the block as SystemExit, so that what was started in it is stopped; nothing changes
    where it is handled already."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not ours:
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


@contextmanager
def running(
    bundle: Path | None = None, module: str = "api", root: Path = ROOT, **settings: object
) -> Iterator[Server]:
    """A server that is ready.

    Args:
        bundle: folder to serve; None leaves the choice to the server.
        module: that `python -m` runs in `root`.
        settings: those of `KORE_*`; names that begin with `OTEL_` are passed as they are.

    Raises:
        StartFailed: it did not get ready.
    """
    with leaving_on_sigterm():
        server = Server(bundle, module, root, settings)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.close()
