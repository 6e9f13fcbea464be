"""The supervisor's life: the process that the user starts when `KORE_HTTP_PROCESSES` is above 0.

1. Reserve the port, and make a private folder for the engine's socket and the metrics.
2. Start the engine and the fronts, each as a fresh interpreter.
3. Start again what dies. A front loses only its own connections. Without an engine the fronts answer 503.
4. A process that ends with status 2 has told the user why: end everything with that status.
5. Turn signals into orders to the engine: SIGTERM, SIGINT and SIGHUP drain, SIGUSR1 reloads the bundle.
6. When the engine has drained and ended, tell the fronts to end, and end with the engine's status.

It runs no threads and no event loop. Signal handlers run while it waits in `os.wait`.
"""

import logging
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from api import logs
from api.ending import USER_ERROR, refuse
from api.fronts.child import SIGNALS
from api.fronts.orders import give
from api.listening import WRONG_ADDRESS, address_in_use, reserve, tell
from api.metrics import SHARED_FOLDER
from api.settings import Settings, warn_of_unknown

log = logging.getLogger("kore")

ENGINE = "api.fronts.engine"
FRONT: Final = "api.fronts.front"

STEADY_S: Final = 10.0
RESTART_PAUSE_S: Final = 1.0
"""A process that lived for less than `STEADY_S` is started again after this pause."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started.

    Attributes:
        module: what it runs.
        orders: the pipe to it.
        started: on `time.monotonic`'s clock.
    """

    module: str
    orders: int
    started: float


class Supervisor:
    """Keeps one engine and its fronts running.

    Args:
        folder: private to this server.
        arguments: the settings of the command line, for the processes.
    """

    def __init__(self, settings: Settings, folder: Path, arguments: list[str]) -> None:
        self._settings = settings
        self._folder = folder
        self._arguments = arguments
        self._running: dict[int, Process] = {}
        self._leave: str | None = None  # the order to leave, once it was given

    def run(self) -> int:
        """Steps 2 to 6 of this file; returns the exit status."""
        metrics = self._folder / "metrics"
        metrics.mkdir()
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, self._on_signal)
        for module in (ENGINE, *[FRONT] * self._settings.http_processes):
            self._start(module)
        while True:
            pid, code = _wait()
            ended = self._running.pop(pid, None)
            if ended is None:  # process 1 of a container gets the orphans of others
                continue
            os.close(ended.orders)
            mark_process_dead(pid, str(metrics))  # type: ignore[no-untyped-call]
            left = self._leave is not None and ended.module == ENGINE
            if left or code == USER_ERROR:
                return self._end(code if code >= 0 else 1)
            log.error("%s %d ended with %d and is started again", ended.module, pid, code)
            if time.monotonic() - ended.started < STEADY_S:
                time.sleep(RESTART_PAUSE_S)
            self._start(ended.module)

    def _start(self, module: str) -> None:
        theirs, ours = os.pipe()  # not inherited by later processes
        os.set_inheritable(theirs, True)
        command = [sys.executable, "-m", module, str(self._folder / "engine"), str(theirs), *self._arguments]
        environment = os.environ | {SHARED_FOLDER: str(self._folder / "metrics")}
        no_input = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        pid = os.posix_spawn(
            sys.executable,
            command,
            environment,
            file_actions=no_input if module == FRONT else [],
            setsigmask=SIGNALS,
        )
        os.close(theirs)
        self._running[pid] = Process(module, ours, time.monotonic())
        if self._leave is not None:
            self._order(self._leave)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._order("swap")
            return
        delay_s = self._settings.drain_delay_s if number == signal.SIGTERM else 0.0
        self._leave = f"leave {delay_s}"
        self._order(self._leave)

    def _order(self, order: str) -> None:
        for process in list(self._running.values()):
            if process.module == ENGINE:
                give(process.orders, order)

    def _end(self, status: int) -> int:
        """Close the pipes, which ends the processes, and wait for them."""
        left, self._running = self._running, {}
        for process in left.values():
            os.close(process.orders)
        while left:
            left.pop(_wait()[0], None)
        return status


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can open; in memory where there is such a place, since a container's own
    files can be read-only."""
    in_memory = Path("/dev/shm")
    writable = in_memory.is_dir() and os.access(in_memory, os.W_OK)
    return tempfile.TemporaryDirectory(prefix="kore-", dir=in_memory if writable else None)


def _wait() -> tuple[int, int]:
    """The next child that ends: its process id, and its exit status, which is negative after a signal."""
    pid, status = os.wait()
    return pid, os.waitstatus_to_exitcode(status)


def supervise(settings: Settings, arguments: list[str]) -> int:
    """Serve with front processes until a signal ends it; returns the exit status."""
    logs.configure(settings.log_format)
    warn_of_unknown(log)
    if not hasattr(socket, "SO_REUSEPORT"):
        return refuse("KORE_HTTP_PROCESSES: this system cannot share a port between processes; leave it at 0")
    try:
        reserved = reserve(settings)
    except WRONG_ADDRESS as error:
        return refuse(address_in_use(settings, error))
    try:
        folder = _private_folder()
    except OSError as error:
        return refuse(f"KORE_HTTP_PROCESSES needs /dev/shm or a folder for temporary files: {error.strerror}")
    with reserved, folder:
        port = reserved.getsockname()[1]
        tell(settings, reserved)
        return Supervisor(settings, Path(folder.name), [*arguments, "--port", str(port)]).run()
