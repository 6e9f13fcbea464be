"""Orders from the supervisor to a process that it started, one a line, over a pipe.

    swap           open the bundle's path again and serve what is there now
    leave SECONDS  take requests for so long, finish those that are inside, and end

The end of the pipe means that the supervisor has closed it or has died: the process must end. Orders are not
signals, because a terminal or a service manager sends a signal to all processes at once.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable


def listen_to(orders: int, obey: Callable[[str], None], end: Callable[[], None]) -> None:
    """Call `obey` with each order from the pipe, and `end` once at its end, on the running event loop."""
    loop = asyncio.get_running_loop()
    rest = b""

    def read() -> None:
        nonlocal rest
        data = os.read(orders, 4096)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            obey(line.decode())
        if not data:
            loop.remove_reader(orders)
            end()

    loop.add_reader(orders, read)


def give(pipe: int, order: str) -> None:
    """Write an order; the process can have ended meanwhile."""
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, f"{order}\n".encode())
