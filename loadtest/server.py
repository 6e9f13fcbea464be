"""A server in a process of its own, for as long as a trial lasts."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_BUNDLE = ROOT / "bundles" / "default"


class Server:
    """A real server in a process of its own, on a port of its own. Its log is read as it comes: a full pipe
    would stop it."""

    def __init__(self, bundle: Path, module: str, settings: dict[str, object]) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KORE_")}
        environment |= {"KORE_DRAIN_DELAY_S": "0"}
        environment |= {
            key if key.startswith("OTEL_") else f"KORE_{key.upper()}": str(value)
            for key, value in settings.items()
        }
        command = [sys.executable, "-m", module, "--port", "0", "--bundle", str(bundle)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
        self.log: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.logged("listening on").rpartition(":")[2])
        except BaseException:  # nobody else knows of the process yet
            self.process.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

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


@contextmanager
def running(bundle: Path, module: str = "api", **settings: object) -> Iterator[Server]:
    """A server that is ready. Settings are those of `KORE_*`; names that begin with `OTEL_` are passed as
    they are."""
    with leaving_on_sigterm():
        server = Server(bundle, module, settings)
        try:
            server.logged("ready: ")
            yield server
        finally:
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait(timeout=60)
            server.client.close()
            server._reader.join(timeout=60)
            for stream in (server.process.stdin, server.process.stdout, server.process.stderr):
                assert stream is not None
                stream.close()
