"""Runs windows of rows on the lanes that serving uses, in batches cut by their measured cost."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from engine.tuning import TunedEnsemble
from models.encoding import EncodedExample
from models.example import Prediction
from scoring.errors import Stopped


class WindowRunner:
    """Runs windows of rows. Several can run at a time, so that no lane waits for the last batch of a window.

    Leaving its context drops the batches that have not begun.
    """

    def __init__(self, tuned: TunedEnsemble) -> None:
        self._ensemble = tuned.lanes.ensemble
        self._planner = tuned.measured.planner
        lanes = tuned.measured.split.lanes
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._free: SimpleQueue[int] = SimpleQueue()
        for lane in range(lanes):
            self._free.put(lane)

    def __enter__(self) -> "WindowRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, rows: Sequence[EncodedExample]) -> "Answering":
        """Start the batches of a window, the longest rows first."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        cuts = self._planner.cut([len(rows[index]) for index in order])
        batches = [[order[place] for place in cut] for cut in cuts]
        futures = [self._threads.submit(self._run, [rows[index] for index in batch]) for batch in batches]
        return Answering(batches, futures)

    def _run(self, rows: Sequence[EncodedExample]) -> list[Prediction]:
        lane = self._free.get()
        try:
            return self._ensemble.run(rows, lane)
        finally:
            self._free.put(lane)


class Answering:
    """A window that runs."""

    def __init__(self, batches: list[list[int]], futures: list[Future[list[Prediction]]]) -> None:
        self._batches = batches
        self._futures = futures
        self._predictions: dict[int, Prediction] = {}

    def finished(self) -> Iterator[int]:
        """Wait for batch after batch; yields the number of rows of each.

        Raises:
            Stopped: the engine failed.
        """
        for batch, future in zip(self._batches, self._futures, strict=True):
            try:
                answers = future.result()
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                reason = " ".join(str(error).split())[:300]
                raise Stopped(f"the engine failed on a batch of {len(batch)} rows: {reason}") from None
            self._predictions.update(zip(batch, answers, strict=True))
            yield len(batch)

    def predictions(self) -> list[Prediction]:
        """In the order of the rows, once all batches are finished."""
        return [self._predictions[index] for index in range(len(self._predictions))]
