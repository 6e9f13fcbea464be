"""The process's life: SIGTERM leaves politely, SIGHUP takes over a new bundle or says that the terminal has
closed, and a second SIGTERM does not wait."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final

import uvicorn

from api.service import RelationService

log = logging.getLogger("kore")

CLOSING_S: Final = 5
"""How long answers that are being sent may take once every prediction is made."""


class Server(uvicorn.Server):
    """Uvicorn, told how this service comes and goes.

    SIGTERM: `/ready` says 503, requests are taken for `drain_delay_s` more (load balancers need that long to
    look), then get 503 while those inside are finished, and the process exits with 0. SIGINT, from a person
    at a terminal, skips the delay, and so does a terminal
    that is closed: it sends SIGHUP, as somebody does who wants a bundle swapped.
    """

    def __init__(self, config: uvicorn.Config, service: RelationService, nohup: bool) -> None:
        config.timeout_graceful_shutdown = CLOSING_S
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaves_with_terminal = not nohup and _in_the_foreground()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP"):
            self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own handler would raise the signal again at the end, and the exit status would not be 0.
        if self._leaving or self._loop is None:
            if self._service.busy or self.should_exit:
                log.error("leaving at once")
                os._exit(1)  # a thread inside ONNX Runtime cannot be interrupted
            self.should_exit = True
            return
        self._leaving = True
        delay_s = self._service.settings.drain_delay_s if sig == signal.SIGTERM else 0.0
        self._loop.call_soon_threadsafe(lambda: self._start(self._leave(delay_s)))

    def _hang_up(self) -> None:
        if self._leaves_with_terminal and _terminal() is None:
            self.handle_exit(signal.SIGINT, None)
        else:
            self._start(self._service.swap())

    async def _leave(self, delay_s: float) -> None:
        log.info("leaving: requests are taken for %g s more", delay_s)
        await self._service.drain(delay_s, self._service.settings.drain_grace_s)
        self.should_exit = True

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _in_the_foreground() -> bool:
    """Whether this process is in the foreground of its terminal, which tells the foreground by SIGHUP when it
    is closed."""
    return _terminal() == os.getpgrp()


def _terminal() -> int | None:
    """The foreground's process group of this process's terminal; None where there is no terminal, or none any
    more."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.tcgetpgrp(terminal)
    except OSError:
        return None
    finally:
        os.close(terminal)
