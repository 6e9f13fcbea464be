"""Serve a bundle, with settings from `KORE_*` or from flags (see --help)."""

import contextlib
import io
import logging
import os
import socket
import sys
from typing import Final

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from api import logs
from api.app import create_app
from api.lifecycle import Server
from api.service import RelationService
from api.settings import Settings
from api.tracing import TracingUnavailable, from_environment

USER_ERROR = 2

KEEP_ALIVE_S: Final = 75
"""How long a connection may idle before it is closed. A request that comes just then is lost, so it is the
others who should close: proxies and load balancers do after a minute, and a Retry-After is seldom as long."""


def read_settings(argv: list[str]) -> Settings:
    """Settings from the environment and the command line, which wins.

    Raises:
        SystemExit: 2, after one plain line on stderr for each setting that is wrong.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return CliApp.run(Settings, cli_args=argv)
    except SystemExit as leaving:
        if leaving.code:
            print(
                f"api: {complaint.getvalue().strip().splitlines()[-1].partition('error: ')[2]}",
                file=sys.stderr,
            )  # without the usage
        raise
    except ValidationError as error:
        for found in error.errors():
            name = "_".join(map(str, found["loc"])).upper()
            print(f"api: KORE_{name}: {found['msg']}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None


def serve(argv: list[str], nohup: bool) -> int:
    """Serve until a signal ends it; returns the exit status.

    Args:
        nohup: whether it goes on when the terminal that it was started at is closed.
    """
    settings = read_settings(argv)
    logs.configure(settings.log_format)
    refusals: list[str] = []

    def refuse(reason: str) -> None:
        refusals.append(reason)
        server.should_exit = True

    try:
        tracing = from_environment()
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # by itself it would be IPv6 alone, which no health check asks
        both = settings.host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=2048, dualstack_ipv6=both
        )
    except TracingUnavailable as error:
        return _refuse(str(error))
    except (OSError, TypeError, UnicodeError) as error:  # the last two: a host name that cannot be encoded
        reason = getattr(error, "strerror", None) or error
        return _refuse(f"cannot listen on {settings.host}:{settings.port}: {reason}")
    logging.getLogger("kore").info("listening on http://%s:%d", settings.host, listener.getsockname()[1])
    service = RelationService(settings, refuse)
    app = create_app(service, tracing)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        timeout_keep_alive=KEEP_ALIVE_S,
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
    )
    server = Server(config, service, nohup)
    server.run(sockets=[listener])
    if service.stuck:
        logging.shutdown()
        os._exit(1)  # the interpreter's own way out would pull the libraries away from under a batch
    return _refuse(refusals[0]) if refusals else 0


def _refuse(reason: str) -> int:
    print(f"api: {reason}", file=sys.stderr)
    return USER_ERROR
