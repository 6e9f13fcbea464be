"""A service and a pool for the routes (`api/seam.py`) whose engine is another process.

The front encodes. The engine admits, refuses, queues and predicts. While the engine is gone, requests get 503
and the front waits for the next one.
"""

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Self

from api.errors import TooLarge
from api.fronts.channel import MessageTooLarge
from api.fronts.link import Link
from api.fronts.wire import (
    AskRoom,
    Describe,
    Measure,
    Predict,
    Predicted,
    Released,
    Status,
    Told,
    Took,
    fingerprint,
)
from api.metrics import exposition
from api.reading import BodyReader
from api.seam import State
from api.settings import Settings
from engine.cores import available_cores
from engine.errors import Failure, NotReady
from engine.waiting import Answered
from models.bundle import Bundle, BundleRefused
from models.bundle_encoder import BundleEncoder
from models.encoding import EncodedExample
from models.example import Example
from models.memory import give_back
from models.pairs import Pairs

log = logging.getLogger("kore")

ENGINE_TRIED_EVERY_S: Final = 0.05
DESCRIPTION_S: Final = 5.0
"""How long /info and /metrics wait for the engine."""


class RemoteService:
    """The service of one front.

    Args:
        socket: path of the engine's Unix socket.

    Attributes:
        reader: reads the bodies of requests.
    """

    def __init__(self, settings: Settings, socket: str) -> None:
        self.settings = settings
        self.reader = BodyReader(settings.example_limit, max(1, available_cores() // settings.http_processes))
        self._socket = socket
        self._state: State = "loading"
        self._newest = 0  # the generation that the engine has told last
        self._pool: RemotePool | None = None
        self._link = Link(self._read_status, self._lost)
        self._settled = asyncio.Event()
        self._taking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def settle(self) -> None:
        """Connect to the engine, as soon as there is one. If it serves a bundle already, take that: a front
        that was started again must not accept requests before it can serve them."""
        await self._connect()
        await self._settled.wait()

    @property
    def state(self) -> State:
        return "loading" if self._state == "ready" and self._pool is None else self._state

    def pool(self) -> "RemotePool":
        """The pool that answers now.

        Raises:
            NotReady: the engine loads or is gone, or the server no longer takes requests.
        """
        if self._pool is None or self._state == "stopping":
            raise NotReady(f"the server is {self.state}", retry_after_s=1)
        return self._pool

    async def load(self) -> None:
        """Does nothing: the engine loads the bundle."""

    async def describe(self) -> dict[str, Any]:
        """What is served and where, for `/info`; only the state while the engine is gone."""
        try:
            return (await self._tell(Describe)).document
        except Failure:
            return {"state": self.state, "swapping": False, "last_swap": None}

    async def metrics(self) -> bytes:
        """The metrics of all processes in Prometheus' text form."""
        try:
            await self._tell(Measure)
        except Failure:
            log.warning("the engine is gone; /metrics is without its gauges")
        return exposition()

    async def close(self) -> None:
        """End the threads that read bodies."""
        await asyncio.to_thread(self.reader.close)

    async def _tell(self, question: type[Describe] | type[Measure]) -> Told:
        answer = await self._link.ask(question, time.monotonic() + DESCRIPTION_S)
        assert isinstance(answer, Told)
        return answer

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._link = Link(self._read_status, self._lost)
            try:
                await loop.create_unix_connection(lambda: self._link.channel, self._socket)
                return
            except OSError:
                await asyncio.sleep(ENGINE_TRIED_EVERY_S)

    def _lost(self) -> None:
        """The engine has ended: refuse requests, and connect to the next one."""
        if self._state in ("loading", "ready"):
            self._state = "loading"
        self._pool, self._newest = None, 0
        self._start(self._connect())

    def _read_status(self, status: Status) -> None:
        self._state = status.state
        if status.generation > self._newest:
            self._newest = status.generation
            self._start(self._take(self._link, status))
        elif not status.generation:
            self._settled.set()
        if self._state == "stopping" and self._pool is not None:
            self._pool.retire()

    async def _take(self, link: Link, status: Status) -> None:
        """Serve the bundle that the engine has told.

        1. Load its encoders. If a still newer bundle has been told meanwhile, skip this one.
        2. Let new requests use it. The old bundle is released after the last request that it has read.
        3. Tell the engine.
        4. Free the old bundle's encoders, once it has been released.
        """
        old = None
        async with self._taking:
            try:
                serving = None if self._pool is None else self._pool.encoder
                encoder = await asyncio.to_thread(_encoder, status, serving)
            except BundleRefused as error:
                log.error("a front cannot encode for the bundle that the engine serves: %s", error)
                if self._pool is None:
                    logging.shutdown()
                    os._exit(1)  # the supervisor starts a new front
                encoder = None
            if link is not self._link:
                return
            if encoder is None or status.generation != self._newest:
                link.channel.send(Released(status.generation))
                return
            if (old := self._pool) is not None:
                old.retire()
            self._pool = RemotePool(link, status.generation, encoder)
            link.channel.send(Took(status.generation))
            self._settled.set()
            if self._state == "stopping":
                self._pool.retire()
        if old is not None:
            await old.released.wait()
            del old
            await asyncio.to_thread(give_back)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class RemotePool:
    """The lanes of one bundle, in the engine's process.

    Attributes:
        encoder: of this bundle.
        released: set once no request holds the pool, and none will.
    """

    def __init__(self, link: Link, generation: int, encoder: BundleEncoder) -> None:
        self.encoder = encoder
        self._link = link
        self._generation = generation
        self._requests = 0
        self._retired = False
        self.released = asyncio.Event()

    def __enter__(self) -> Self:
        self._requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._requests -= 1
        self._release_if_unused()

    def encode(self, asked: Example | Pairs) -> list[EncodedExample]:
        """As `Pool.encode`."""
        return self.encoder.encode_all(asked)

    def retire(self) -> None:
        """Release the bundle in the engine once no request holds this pool; no new request will."""
        self._retired = True
        self._release_if_unused()

    async def require_room(self, deadline: float) -> None:
        """Refuse a request before its body is parsed, if the engine would. The engine is asked only while it
        refuses requests, or if the deadline has passed: to ask for every request would double the messages.

        Raises:
            QueueFull, WaitTooLong, NotReady, BatchLost, DeadlineExceeded: as `Link.ask`.
        """
        if self._link.full or deadline <= time.monotonic():
            await self._link.ask(lambda number: AskRoom(number, self._generation, deadline), deadline)
            self._link.full = False

    async def predict(self, rows: Sequence[EncodedExample], deadline: float) -> Answered:
        """Predictions in the order of the rows.

        Raises:
            TooLarge: the rows do not fit into one message.
            QueueFull, WaitTooLong, NotReady, BatchLost, DeadlineExceeded: as `Link.ask`.
        """
        try:
            answer = await self._link.ask(
                lambda number: Predict(number, self._generation, deadline, rows), deadline
            )
        except MessageTooLarge as error:
            raise TooLarge(f"{error}; send fewer examples in a request") from None
        assert isinstance(answer, Predicted)
        return Answered(list(answer.predictions), answer.queue_s, answer.inference_s)

    def _release_if_unused(self) -> None:
        if self._retired and not self._requests:
            self._link.channel.send(Released(self._generation))
            self.released.set()


def _encoder(status: Status, serving: BundleEncoder | None) -> BundleEncoder:
    """Raises BundleRefused: the bundle cannot be read, or is not the one that the engine has proven."""
    bundle = Bundle.open(Path(status.path))
    if fingerprint(bundle) != status.manifest:
        raise BundleRefused(f"bundle {status.path}: its manifest was changed while in use")
    return BundleEncoder.of(bundle, serving, keep_lock=False)  # a front has no lanes
