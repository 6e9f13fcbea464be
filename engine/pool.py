"""One proven ensemble at work: a queue over its lanes, and new sessions after a failed run."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from engine.queue import DynamicBatcher, QueueOptions
from engine.tuning import TunedEnsemble
from engine.waiting import Answered
from models.bundle import Bundle
from models.encoding import EncodedExample
from models.ensemble import Ensemble
from models.example import Example, Prediction
from models.pairs import Pairs

log = logging.getLogger("kore")

REBUILD_PAUSE_S: Final = 10.0
"""The least time between two rebuilds: an input that fails every run must not keep the server loading."""

OnBatch = Callable[[Sequence[int]], None]
"""Told of each batch before it runs: the lengths of its rows in tokens."""


class Pool:
    """The lanes of a bundle. A request holds the pool that read it until it is answered (`with pool:`). So a
    new bundle can take over at any moment, and its predecessor is closed after its last request.

    Args:
        max_queue: how many examples can wait.
        max_wait_s: how long a free lane waits for more requests.
        on_batch: told of each batch.
    """

    def __init__(
        self,
        tuned: TunedEnsemble,
        max_queue: int,
        max_wait_s: float = 0.0,
        on_batch: OnBatch = lambda lengths: None,
    ) -> None:
        self.tuned = tuned
        self._on_batch = on_batch
        self._batcher = DynamicBatcher(
            self._run,
            tuned.measured.planner,
            QueueOptions(tuned.lanes.split.lanes, max_queue, max_wait_s),
            run_alone=self._run_alone if tuned.alone else None,
            recover=self._rebuild,
        )
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._broken: Ensemble | None = None  # whose run failed last
        self._rebuilding = threading.Lock()
        self._rebuilt = -REBUILD_PAUSE_S

    def __enter__(self) -> "Pool":
        self._requests += 1
        self._idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether requests hold this pool."""
        return self._requests > 0

    @property
    def waiting(self) -> int:
        """Examples in the queue."""
        return self._batcher.waiting

    @property
    def estimated_wait_s(self) -> float:
        """Seconds that a request of one example would wait if it arrived now."""
        return self._batcher.estimated_wait_s

    def encode(self, asked: Example | Pairs) -> list[EncodedExample]:
        """Mark and tokenise an example, or each pair. Raises as `BundleEncoder.encode_all`."""
        return self.tuned.lanes.ensemble.encoder.encode_all(asked)

    def check_room(self, deadline: float) -> None:
        """Refuse a request before its body is read. Raises as `DynamicBatcher.require_room`."""
        self._batcher.require_room(deadline)

    async def require_room(self, deadline: float) -> None:
        """As `check_room`, for callers that do not know where the engine is."""
        self.check_room(deadline)

    def predict(self, rows: Sequence[EncodedExample], deadline: float) -> asyncio.Future[Answered]:
        """Predictions in the order of the rows. Raises, and fails, as `DynamicBatcher.submit`."""
        if rows:
            return self._batcher.submit(rows, deadline)
        nothing: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        nothing.set_result(Answered([], 0.0, 0.0))  # of a sentence whose entities make no pair
        return nothing

    async def idle(self) -> None:
        """Wait until no request holds this pool."""
        await self._idle.wait()

    def give_up(self) -> None:
        """Answer every request that waits with `NotReady`."""
        self._batcher.give_up()

    async def close(self, limit_s: float | None = None) -> bool:
        """Finish the queue, then end the lanes.

        Returns:
            Whether all lanes ended within the limit, in seconds.
        """
        return await asyncio.to_thread(self._batcher.close, limit_s)

    def _run(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        return self.execute(self.tuned.lanes.ensemble, rows, lane)

    def _run_alone(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        return self.execute((self.tuned.alone or self.tuned.lanes).ensemble, rows, lane)

    def execute(self, ensemble: Ensemble, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        """Run one batch; a failed run is remembered for `_rebuild`."""
        self._on_batch([len(row) for row in rows])
        try:
            return ensemble.run(rows, lane)
        except Exception:
            self._broken = ensemble
            raise

    def _rebuild(self) -> None:
        """Load the members anew after a failed run: a session can be left in a state that fails every later
        run. Other lanes whose runs failed wait here, so that they lose no more requests on the old sessions.
        """
        with self._rebuilding:
            broken, self._broken = self._broken, None  # kept, it would hold the old members' memory
            tuned = self.tuned
            serving = [lanes.ensemble for lanes in (tuned.lanes, tuned.alone) if lanes]
            if broken not in serving or time.monotonic() - self._rebuilt < REBUILD_PAUSE_S:
                return
            served = tuned.lanes.ensemble.bundle
            try:
                bundle = Bundle.open(served.path)
                if bundle.manifest == served.manifest:  # another bundle at this path has other tokens
                    self.tuned = tuned.reload(bundle)
                    log.warning("the members were loaded anew after a failed run")
            except Exception:
                log.exception("the members could not be loaded anew; the old sessions go on")
            self._rebuilt = time.monotonic()
