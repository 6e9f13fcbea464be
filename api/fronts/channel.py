"""A connection between a front and the engine: a Unix stream socket with one MessagePack value after another.

The connection tells each side at once when the other one has died. The messages of one turn of the event loop
leave together, in one system call (`api/outbox.py`).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

import msgpack

from api.fronts.wire import Message, decode, encode
from api.outbox import Outbox

log = logging.getLogger("kore")

LARGEST_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""More than 16,000 examples of 512 tokens."""


class MessageTooLarge(ValueError):
    """The message was not sent."""


class Channel(asyncio.Protocol):
    """One end. A message that cannot be read closes the connection.

    Args:
        on_message: called with each message.
        on_lost: called once, when the connection has ended.
        on_made: called once, when the connection is made.
    """

    def __init__(
        self,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
        on_made: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_made = on_made
        # One read can hold the end of a message and the next ones.
        self._unpacker = msgpack.Unpacker(max_buffer_size=2 * LARGEST_MESSAGE_BYTES)
        self._transport: Outbox | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Send a message; one on a connection that has ended is dropped.

        Raises:
            MessageTooLarge: it exceeds `LARGEST_MESSAGE_BYTES`.
        """
        if self._transport is None or self._transport.is_closing():
            return
        packed = encode(message)
        if len(packed) > LARGEST_MESSAGE_BYTES:
            raise MessageTooLarge(f"a message can hold {LARGEST_MESSAGE_BYTES} bytes, not {len(packed)}")
        self._transport.write(packed)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = Outbox(cast(asyncio.Transport, transport))
        self._on_made()

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            for values in self._unpacker:
                self._on_message(decode(values))
        except (ValueError, msgpack.UnpackException) as error:
            log.error("a process of this server sent what is no message: %s", error)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost()
