"""Faults of an engine, on demand: see `loadtest/faulty_server.py`."""

import itertools
import sys
import threading
from collections.abc import Iterator, Sequence

from engine.pool import Pool
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction

healthy_run = Pool.execute  # measuring and proving a bundle do not call it: faults are for requests only
flowing = threading.Event()
faults: Iterator[bool] = itertools.repeat(False)
failed: list[int] = []
"""The number of examples in each run that failed."""
lock = threading.Lock()


class Faulty:
    """Replaces an engine's ensemble for one run."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble

    def __eq__(self, other: object) -> bool:
        """A pool asks whether the ensemble that failed is the one that it serves."""
        return other is self._ensemble

    __hash__ = None  # type: ignore[assignment]

    def run(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        flowing.wait()
        with lock:
            fails = next(faults)
            if fails:
                failed.append(len(rows))
        if fails:
            raise RuntimeError("injected")
        return self._ensemble.run(rows, lane)


def run(pool: Pool, ensemble: Ensemble, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
    return healthy_run(pool, Faulty(ensemble), rows, lane)


def obey() -> None:
    global faults
    for line in sys.stdin:
        order, _, count = line.strip().partition(" ")
        if order == "count":
            print(len(failed), sum(failed), flush=True)
            continue
        if order == "fail":
            with lock:
                faults = itertools.chain(itertools.repeat(True, int(count)), itertools.repeat(False))
        elif order == "wait":
            flowing.clear()
        else:
            flowing.set()
        print(line, end="", flush=True)


def install() -> None:
    """Let the engine of this process obey the orders on its standard input."""
    flowing.set()
    Pool.execute = run  # type: ignore[method-assign]
    threading.Thread(target=obey, daemon=True).start()
