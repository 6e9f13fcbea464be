"""What a connection sends: the writes of one turn of the event loop leave in one system call.

uvloop sends each write at once. But an answer over HTTP is two writes, its head and its body, and a front and
the engine write many messages in a turn. A system call costs more than most messages, and it wakes the other
side.
"""

import asyncio
from typing import Any


class Outbox:
    """A transport that sends what was written at the end of the turn; `close` sends it at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():  # the other side can have left since then
            self._transport.writelines(unsent)
