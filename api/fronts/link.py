"""A front's connection to one engine process: questions, and the answers that belong to them."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final

from api.fronts.channel import Channel
from api.fronts.wire import Answer, Cancel, Failed, Message, Predicted, Question, Status, Told
from engine.errors import BatchLost, DeadlineExceeded, Failure, NotReady, QueueFull, WaitTooLong

FAILURES: Final[dict[str, type[Failure]]] = {
    kind.__name__: kind for kind in (QueueFull, WaitTooLong, NotReady, BatchLost, DeadlineExceeded)
}

LATE_S: Final = 1.0
"""The engine itself answers at a request's deadline. If it hangs, the front answers this much later."""


class Link:
    """A connection to one engine process; it ends with that process.

    Args:
        on_status: called with each status that the engine tells.
        on_lost: called when the connection has ended. Every question has failed by then.

    Attributes:
        full: whether the engine has refused the newest request for lack of room.
    """

    def __init__(self, on_status: Callable[[Status], None], on_lost: Callable[[], None]) -> None:
        self.channel = Channel(self._read, self._lost)
        self.full = False
        self._on_status = on_status
        self._on_lost = on_lost
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def ask(self, question: Callable[[int], Question], deadline: float) -> Predicted | Told:
        """Ask the engine. If the caller leaves, the engine is told.

        Args:
            question: makes the question out of its number.
            deadline: on `time.monotonic`'s clock.

        Raises:
            QueueFull, WaitTooLong, NotReady, BatchLost, DeadlineExceeded: as the engine failed.
            BatchLost: the engine has ended.
            MessageTooLarge: the question was not sent.
            RuntimeError: the engine failed in another way; its log has the traceback.
        """
        if not self.channel.open:
            raise _ended()
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        late = asyncio.get_running_loop().call_later(
            max(0.0, deadline - time.monotonic()) + LATE_S, _expire, future
        )
        try:
            self.channel.send(question(number))
            answer: Answer = await future
        finally:
            late.cancel()
            if self._waiting.pop(number, None) is not None:  # no answer has arrived
                self.channel.send(Cancel(number))
            # An exception that the future keeps would keep this frame, and so the future.
            del future
        if not isinstance(answer, Failed):
            return answer
        if answer.kind not in FAILURES:
            raise RuntimeError(f"the engine failed with {answer.kind}: {answer.detail}")
        self.full = FAILURES[answer.kind] in (QueueFull, WaitTooLong)
        raise FAILURES[answer.kind](answer.detail, answer.retry_after_s)

    def _read(self, message: Message) -> None:
        if isinstance(message, Status):
            self._on_status(message)
        elif isinstance(message, Predicted | Failed | Told):
            future = self._waiting.pop(message.number, None)
            if future is not None and not future.done():
                future.set_result(message)

    def _lost(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_ended())
        self._waiting.clear()
        self._on_lost()


def _ended() -> BatchLost:
    return BatchLost("the engine failed on this request; it can be sent again", retry_after_s=1)


def _expire(future: asyncio.Future[Answer]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("the deadline passed before the answer was ready"))
