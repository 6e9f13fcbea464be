"""The process's life: `serve` runs from start to end. Signals:

SIGTERM  drain, then exit with 0; the second one exits at once
SIGINT   the same without the drain delay: a person at a terminal has pressed Ctrl-C
SIGHUP   the same as SIGINT: the terminal was closed (ignored under nohup)
SIGUSR1  open the bundle's path again and serve what is there now
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from api import logs
from api.app import create_app
from api.connection import configure
from api.ending import NOT_STARTED, end_in_time, leave_running_batch, refuse
from api.listening import WRONG_ADDRESS, address_in_use, listen, tell
from api.service import RelationService
from api.settings import Settings, warn_of_unknown
from api.tracing import TracingUnavailable, from_environment

log = logging.getLogger("kore")


class Server(uvicorn.Server):
    """Uvicorn with this service's signals."""

    def __init__(self, config: uvicorn.Config, service: RelationService) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGUSR1"):
            loop.add_signal_handler(signal.SIGUSR1, lambda: self._start(self._service.swap()))
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                loop.add_signal_handler(signal.SIGHUP, self.handle_exit, signal.SIGHUP, None)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own handler would raise the signal again at the end, and the exit status would not be 0.
        if self._leaving or self._loop is None:
            if self._service.busy or self.should_exit:
                log.error("exiting at once")
                os._exit(1)  # a thread inside ONNX Runtime cannot be interrupted
            self.should_exit = True
            return
        self._leaving = True
        delay_s = self._service.settings.drain_delay_s if sig == signal.SIGTERM else 0.0
        self._loop.call_soon_threadsafe(lambda: self._start(self._leave(delay_s)))

    async def _leave(self, delay_s: float) -> None:
        log.info("draining: requests are taken for %g s more", delay_s)
        await self._service.drain(delay_s, self._service.settings.drain_grace_s)
        end_in_time()
        self.should_exit = True

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def serve(settings: Settings) -> int:
    """Serve until a signal ends it; returns the exit status."""
    logs.configure(settings.log_format)
    warn_of_unknown(log)
    refusals: list[str] = []

    def refuse_bundle(reason: str) -> None:
        refusals.append(reason)
        server.should_exit = True

    try:
        tracing = from_environment()
        listener = listen(settings)
    except TracingUnavailable as error:
        return refuse(str(error))
    except WRONG_ADDRESS as error:
        return refuse(address_in_use(settings, error))
    tell(settings, listener)
    service = RelationService(settings, refuse_bundle)
    server = Server(configure(create_app(service, tracing), settings), service)
    with suppress(SystemExit):  # uvicorn's own, with status 3, if the start fails
        server.run(sockets=[listener])
    if not (server.started or refusals):
        return refuse(NOT_STARTED)
    if service.stuck:
        leave_running_batch()
    return refuse(refusals[0]) if refusals else 0
