"""What the supervisor hands to a process that it starts: `python -m MODULE SOCKET PIPE [settings]`."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from api.settings import Settings, read_settings
from engine.cores import available_cores
from models.memory import collect_seldom, few_heaps

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""The supervisor alone reacts to these. It starts the others with these signals blocked: a terminal or a
service manager sends them to every process at once."""


@dataclass(frozen=True, slots=True)
class Child:
    """
    Attributes:
        socket: path of the engine's Unix socket.
        orders: file descriptor of the pipe with the supervisor's orders.
    """

    socket: str
    orders: int
    settings: Settings

    @classmethod
    def of(cls, argv: list[str]) -> "Child":
        """Raises SystemExit: 2, if a person started this process."""
        if len(argv) < 2 or not argv[1].isdecimal():
            print("api: start `python -m api --http-processes 2`; it starts this process", file=sys.stderr)
            raise SystemExit(2)
        return cls(argv[0], int(argv[1]), read_settings(argv[2:]))


def run(live: Callable[[Child], Coroutine[None, None, int]], argv: list[str] | None) -> int:
    """Run a process's life on its event loop; returns the exit status."""
    child = Child.of(sys.argv[1:] if argv is None else argv)  # before the heavy imports
    few_heaps(available_cores())
    collect_seldom()
    import uvloop

    from api import logs

    logs.configure(child.settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(live(child))
