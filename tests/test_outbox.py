"""What a connection sends, and when."""

import asyncio
from typing import cast

from api.outbox import Outbox


class Wire:
    """A transport that notes what it is told to do."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.closing = False

    def writelines(self, parts: list[bytes]) -> None:
        self.seen.append(b"".join(parts))

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return self.closing


def outbox(wire: Wire) -> Outbox:
    return Outbox(cast(asyncio.Transport, wire))


def test_the_writes_of_a_turn_are_sent_together_in_the_next_one() -> None:
    async def write() -> Wire:
        out = outbox(wire := Wire())
        out.write(b"head, ")
        out.write(b"body")
        assert not wire.seen
        await asyncio.sleep(0)
        out.write(b"next")
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(write()).seen == [b"head, body", b"next"]


def test_what_is_written_is_sent_at_once_if_it_is_told_to() -> None:
    async def write() -> Wire:
        out = outbox(wire := Wire())
        out.write(b"answer")
        out.send()
        assert wire.seen == [b"answer"]
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(write()).seen == [b"answer"]


def test_what_is_written_is_sent_before_the_connection_is_closed() -> None:
    async def write() -> Wire:
        out = outbox(wire := Wire())
        out.write(b"last")
        out.close()
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(write()).seen == [b"last", "closed"]


def test_nothing_is_written_to_a_connection_that_is_closed() -> None:
    async def write() -> Wire:
        out = outbox(wire := Wire())
        out.write(b"late")
        wire.closing = True
        assert out.is_closing()
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(write()).seen == []
