"""The address that the server listens on, in one process or in several that share it."""

import logging
import socket
from typing import Final

from api.settings import Settings

log = logging.getLogger("kore")

WRONG_ADDRESS: Final = (OSError, TypeError, UnicodeError)
"""What `listen` and `reserve` raise. The last two are for a host name that cannot be encoded."""


def listen(settings: Settings, shared: bool = False) -> socket.socket:
    """A socket that listens.

    Args:
        shared: whether other processes listen on the same port; the kernel deals out the connections.
    """
    host = settings.host
    return socket.create_server(
        (host, settings.port),
        family=_family(host),
        backlog=2048,
        reuse_port=shared,
        dualstack_ipv6=_both(host),
    )


def reserve(settings: Settings) -> socket.socket:
    """A socket that only holds a free port, for processes that will share it.

    1. Bind without sharing: this fails if any other process listens on the port.
    2. Bind again, with sharing, to the number that the first bind found.
    """
    with _bound(settings.host, settings.port, shared=False) as first:
        port = first.getsockname()[1]
    return _bound(settings.host, port, shared=True)


def tell(settings: Settings, bound: socket.socket) -> None:
    """Log the address."""
    address = f"http://{_in_url(settings.host)}:{bound.getsockname()[1]}"
    log.info("listening on %s%s", address, f"; the page: {address}/" if settings.page else "")


def address_in_use(settings: Settings, error: Exception) -> str:
    """One line for an address that cannot be used."""
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {_in_url(settings.host)}:{settings.port}: {reason}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bound(host: str, port: int, shared: bool) -> socket.socket:
    bound = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not _both(host))
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _both(host: str) -> bool:
    # Left alone, :: would listen on IPv6 only, which no health check asks.
    return host == "::" and socket.has_dualstack_ipv6()
