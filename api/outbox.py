"""What a connection sends: several writes leave in one system call.

uvloop sends each write at once. But an answer over HTTP is two writes, its head and its body, and a front and
the engine write many messages in a turn. A system call costs more than most messages, and it wakes the other
side.
"""

import asyncio
from typing import Any


class Outbox:
    """A transport that collects writes, and sends them in the loop's next turn or when it is told to."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self.send)
        self._unsent.append(data)

    def send(self) -> None:
        """Send what was written."""
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():  # the loop can have closed it meanwhile
            self._transport.writelines(unsent)

    def close(self) -> None:
        """Send what was written, then close the connection."""
        self.send()
        self._transport.close()
