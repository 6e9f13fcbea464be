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
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final

import uvicorn

from api import logs
from api.app import create_app
from api.connection import connection_class
from api.service import RelationService
from api.settings import Settings, warn_of_unknown
from api.tracing import TracingUnavailable, from_environment

log = logging.getLogger("kore")

USER_ERROR: Final = 2

KEEP_ALIVE_S: Final = 75
"""How long a connection can idle before the server closes it, in seconds. A request that is sent at that
moment is lost, so the other side should close first: proxies and load balancers do after a minute."""

CLOSING_S: Final = 5
"""How long answers that are being sent can take once every prediction is made, in seconds."""

ENDING_S: Final = 15.0
"""How long the process can take to end after its last answer, in seconds. A bundle that loads without end, as
from a disk that stalls, is in a thread that cannot be stopped."""


class Server(uvicorn.Server):
    """Uvicorn with this service's signals."""

    def __init__(self, config: uvicorn.Config, service: RelationService) -> None:
        config.timeout_graceful_shutdown = CLOSING_S
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
        clock = threading.Timer(ENDING_S, _end)
        clock.daemon = True
        clock.start()
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

    def refuse(reason: str) -> None:
        refusals.append(reason)
        server.should_exit = True

    try:
        tracing = from_environment()
        listener = _listen(settings.host, settings.port)
    except TracingUnavailable as error:
        return _refuse(str(error))
    except (OSError, TypeError, UnicodeError) as error:  # the last two: a host name that cannot be encoded
        reason = getattr(error, "strerror", None) or error
        return _refuse(f"cannot listen on {_in_url(settings.host)}:{settings.port}: {reason}")
    address = f"http://{_in_url(settings.host)}:{listener.getsockname()[1]}"
    log.info("listening on %s%s", address, f"; the page: {address}/" if settings.page else "")
    service = RelationService(settings, refuse)
    config = uvicorn.Config(
        create_app(service, tracing),
        loop="uvloop",
        lifespan="on",  # without it, a server whose start fails would answer 500 to everything
        http=connection_class(settings.header_timeout_s),
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
    )
    server = Server(config, service)
    server.run(sockets=[listener])
    if not (server.started or refusals):
        return _refuse("the server could not start; the log says why")
    if service.stuck:
        logging.shutdown()
        os._exit(1)  # a normal exit would unload the libraries under a running batch
    return _refuse(refusals[0]) if refusals else 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Left alone, :: would listen on IPv6 only, which no health check asks.
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _end() -> None:
    log.error("the process did not end within %g s: exiting at once", ENDING_S)
    os._exit(1)


def _refuse(reason: str) -> int:
    print(f"api: {reason}", file=sys.stderr)
    return USER_ERROR
