"""One proven ensemble at work: it reads requests, batches their examples over its lanes, and is rebuilt when
a run fails."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.metrics import BATCH_PADDING_SHARE, BATCH_ROWS, BATCH_TOKENS, predicted, voted
from api.schemas import Question, read_question
from api.settings import Settings
from engine.errors import DeadlineExceeded
from engine.queue import Answered, DynamicBatcher
from engine.tuning import TunedEnsemble
from models.bundle import Bundle
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction

log = logging.getLogger("kore")

SHORT_BODY_BYTES: Final = 4 * 1024
"""A body up to this long, an example or a few, is read on the event loop: some 0.1 ms, where handing it to a
thread and back costs more than that and wakes a thread on a core that is busy with a lane (docs/log.md)."""

SMALL_BODY_BYTES: Final = 64 * 1024

REBUILD_PAUSE_S: Final = 10.0
"""Between two rebuilds: an input that fails every run must not keep the server busy loading models."""


class Engine:
    """Requests hold the engine that read them until they are answered (`with engine:`), so that a new bundle
    can take over at any
    moment: its predecessor retires when the last of its requests has gone."""

    def __init__(self, tuned: TunedEnsemble, settings: Settings, cores: int) -> None:
        self.tuned = tuned
        self._broken: TunedEnsemble | None = None
        self._limit = settings.example_limit
        self._batcher = DynamicBatcher(
            self._run,
            tuned.measured.planner,
            tuned.measured.split.lanes,
            settings.max_queue,
            settings.max_wait_ms / 1000,
            run_alone=self._run_alone if tuned.alone else None,
            recover=self._rebuild,
        )
        # Parsing and tokenising 256 examples takes tens of milliseconds: not on the event loop, and never
        # before a small request.
        self._encoding = ThreadPoolExecutor(cores, thread_name_prefix="encode")
        self._encoding_large = ThreadPoolExecutor(1, thread_name_prefix="encode-large")
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._rebuilding = threading.Lock()
        self._rebuilt = -REBUILD_PAUSE_S

    def __enter__(self) -> "Engine":
        self._requests += 1
        self._idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether requests hold this engine."""
        return self._requests > 0

    @property
    def waiting(self) -> int:
        """Examples in the queue."""
        return self._batcher.waiting

    def require_room(self, body: bytes, deadline: float) -> None:
        """Refuse a request whose answer would be late whatever is asked, before anything is spent on reading
        it. A long body is read first: how much it asks decides when it may come back. Raises as
        `DynamicBatcher.require_room`."""
        if len(body) <= SHORT_BODY_BYTES:
            self._batcher.require_room(deadline)

    async def read(self, body: bytes, deadline: float) -> Question:
        """Parse, check and encode a request's body, off the event loop unless it is short.

        Raises:
            DeadlineExceeded: the deadline (on `time.monotonic`'s clock) passed.
            InvalidRequest, TooLarge: as `read_question`.
        """
        if len(body) <= SHORT_BODY_BYTES:
            return read_question(body, self._limit, self.tuned.lanes.ensemble.encode)
        loop = asyncio.get_running_loop()
        threads = self._encoding if len(body) <= SMALL_BODY_BYTES else self._encoding_large
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await loop.run_in_executor(
                    threads, read_question, body, self._limit, self.tuned.lanes.ensemble.encode
                )
        except TimeoutError:
            raise DeadlineExceeded("the request's deadline passed before it was read") from None

    async def predict(self, question: Question, deadline: float) -> Answered:
        """Predictions in the order asked. Raises as `DynamicBatcher.submit`."""
        answered = await self._batcher.submit(question.rows, deadline)
        for prediction in answered.predictions:
            voted(prediction.members).inc()
            predicted(prediction.relation).inc()
        return answered

    async def idle(self) -> None:
        """Until no request holds this engine."""
        await self._idle.wait()

    def give_up(self) -> None:
        """Send everybody away who holds this engine and waits for an answer."""
        self._batcher.give_up()

    async def close(self, limit_s: float | None = None) -> bool:
        """Finish what waits, then let go of the threads.

        Returns:
            Whether all lanes ended within the limit.
        """
        ended = await asyncio.to_thread(self._batcher.close, limit_s)
        for threads in (self._encoding, self._encoding_large):
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        return ended

    def _run(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        return self._run_on(self.tuned.lanes.ensemble, rows, lane)

    def _run_alone(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        assert self.tuned.alone is not None
        return self._run_on(self.tuned.alone.ensemble, rows, lane)

    def _run_on(self, ensemble: Ensemble, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        lengths = [len(row) for row in rows]
        padded = max(lengths) * len(lengths)
        BATCH_ROWS.observe(len(rows))
        BATCH_TOKENS.observe(padded)
        BATCH_PADDING_SHARE.observe(1 - sum(lengths) / padded)
        tuned = self.tuned
        try:
            return ensemble.run(rows, lane)
        except Exception:
            self._broken = tuned
            raise

    def _rebuild(self) -> None:
        """Load the members anew behind a failed run: a session may be left in a state that fails every run
        after it. Other lanes whose runs failed wait for it, rather than lose more requests on the old
        sessions."""
        with self._rebuilding:
            broken, self._broken = self._broken, None  # kept, it would hold the old members' memory
            if (
                broken is None
                or self.tuned is not broken
                or time.monotonic() - self._rebuilt < REBUILD_PAUSE_S
            ):
                return
            try:
                bundle = Bundle.open(broken.lanes.ensemble.bundle.path)
                # else another bundle lies there by now, whose tokens differ
                if bundle.manifest == broken.lanes.ensemble.bundle.manifest:
                    self.tuned = broken.reload(bundle)
                    log.warning("the members were loaded anew after a failed run")
            except Exception:
                log.exception("the members could not be loaded anew; the old ones go on")
            self._rebuilt = time.monotonic()
