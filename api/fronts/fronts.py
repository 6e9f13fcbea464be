"""The engine's end of the seam: its fronts, what they ask, and the pools that they hold.

A front holds the pool that it encodes for, as a request does in one process (`with pool:`). So after a swap
the old bundle serves until every front has taken the new one and has answered the requests that it had read
for the old one. No request is encoded twice, and none is lost.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from api.fronts.channel import Channel
from api.fronts.wire import (
    AskRoom,
    Cancel,
    Describe,
    Failed,
    Measure,
    Message,
    Predict,
    Predicted,
    Question,
    Released,
    Status,
    Told,
    Took,
    fingerprint,
)
from api.service import RelationService
from engine.errors import Failure
from engine.pool import Pool
from engine.waiting import Answered

log = logging.getLogger("kore")

LOADING: Final = Status("loading", 0, "", "")


class Fronts:
    """The connected fronts of an engine.

    1. A front that connects is told what the engine serves. So are all of them after each change.
    2. The first `ready` is told once every connected front has taken the bundle: a caller whose probe one
       front has answered with 200 must not get 503 from another one.
    """

    def __init__(self, service: RelationService) -> None:
        self._service = service
        self._fronts: set[Front] = set()
        self._pool: Pool | None = None  # of the newest generation
        self._status = LOADING
        self._ready_told = False
        service.on_change = self._announce

    @property
    def busy(self) -> bool:
        """Whether requests of fronts are inside."""
        return any(front.busy for front in self._fronts)

    def connect(self) -> Channel:
        """The protocol of a new connection."""
        front = Front(self._service, self._announce, self._remove)
        self._fronts.add(front)
        return front.channel

    def close(self) -> None:
        for front in list(self._fronts):
            front.channel.close()

    def _remove(self, front: "Front") -> None:
        self._fronts.discard(front)
        self._announce()

    def _announce(self) -> None:
        """Tell every front what is served now."""
        pool, state = self._service.serving, self._service.state
        generation, path, manifest = self._status.generation, self._status.path, self._status.manifest
        if pool is not None and pool is not self._pool:
            bundle = pool.tuned.lanes.ensemble.bundle
            generation, path, manifest = generation + 1, str(bundle.path), fingerprint(bundle)
            self._pool = pool
        if state == "ready" and not self._ready_told:
            self._ready_told = all(generation in front.took for front in self._fronts)
            state = "ready" if self._ready_told else "loading"
        self._status = Status(state, generation, path, manifest)
        for front in self._fronts:
            front.tell(self._status, self._pool)


class Front:
    """One front.

    Args:
        on_change: called once it is connected, and when it has taken a bundle.
        on_lost: called when its connection has ended.

    Attributes:
        took: the generations that it has encoded for.
    """

    def __init__(
        self,
        service: RelationService,
        on_change: Callable[[], None],
        on_lost: Callable[["Front"], None],
    ) -> None:
        self.channel = Channel(self._read, self._lost, on_made=on_change)
        self.took: set[int] = set()
        self._service = service
        self._on_change = on_change
        self._on_lost = on_lost
        self._held: dict[int, Pool] = {}
        self._told: Status | None = None
        self._predicted: dict[int, asyncio.Future[Answered]] = {}  # by the question's number

    @property
    def busy(self) -> bool:
        return bool(self._predicted)

    def tell(self, status: Status, pool: Pool | None) -> None:
        """Tell a new status, and hold the pool of its generation for this front."""
        if status == self._told or not self.channel.open:
            return
        if pool is not None and (self._told is None or status.generation != self._told.generation):
            self._held[status.generation] = pool.__enter__()
        self._told = status
        self.channel.send(status)

    def _read(self, message: Message) -> None:
        match message:
            case Predict(number) | AskRoom(number) | Describe(number) | Measure(number):
                try:
                    self._answer(message)
                except Exception as error:
                    self.channel.send(_failed(number, error))
            case Cancel(number):
                if number in self._predicted:
                    self._predicted[number].cancel()
            case Took(generation):
                self.took.add(generation)
                self._on_change()
            case Released(generation):
                self._release(generation)

    def _answer(self, question: Question) -> None:
        """Answer now, or once the predictions are there. Raises a `Failure`."""
        match question:
            case Predict(number, generation, deadline, rows):
                # No task: to wait in one would cost as much as the rest of this process's part.
                predicted = self._predicted[number] = self._held[generation].predict(rows, deadline)
                predicted.add_done_callback(partial(self._send_predicted, number))
            case AskRoom(number, generation, deadline):
                self._held[generation].check_room(deadline)
                self.channel.send(Told(number, {}))
            case Describe(number):
                self.channel.send(Told(number, self._service.description()))
            case Measure(number):
                self._service.measure()
                self.channel.send(Told(number, {}))

    def _send_predicted(self, number: int, predicted: asyncio.Future[Answered]) -> None:
        del self._predicted[number]
        if predicted.cancelled():
            return
        if (error := predicted.exception()) is not None:
            self.channel.send(_failed(number, error))
            return
        answered = predicted.result()
        self.channel.send(Predicted(number, answered.queue_s, answered.inference_s, answered.predictions))

    def _release(self, generation: int) -> None:
        if (pool := self._held.pop(generation, None)) is not None:
            pool.__exit__()

    def _lost(self) -> None:
        for predicted in self._predicted.values():
            predicted.cancel()
        for generation in list(self._held):
            self._release(generation)
        self._on_lost(self)


def _failed(number: int, error: BaseException) -> Failed:
    if isinstance(error, Failure):
        return Failed(number, type(error).__name__, str(error.detail), error.retry_after_s)
    log.error("a front's question could not be answered", exc_info=error)
    return Failed(number, type(error).__name__, str(error), None)
