"""`python -m api` whose engine fails, or waits, when it is told to; run by tests and trials. The product has no switch for faults.

A line on standard input is an order, and is repeated on standard output once it holds: `wait` holds every
run, `go` lets them pass, `fail N` lets the next N runs raise.
"""

import itertools
import sys
import threading
from collections.abc import Iterator, Sequence

from api.__main__ import main
from engine.pool import Pool
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction

healthy_run = Pool.execute  # measuring and proving a bundle do not call it: faults are for requests only
flowing = threading.Event()
faults: Iterator[bool] = itertools.repeat(False)
lock = threading.Lock()


class Faulty:
    """Stands where the ensemble of an engine stood, for one run."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble

    def run(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        flowing.wait()
        with lock:
            fails = next(faults)
        if fails:
            raise RuntimeError("injected")
        return self._ensemble.run(rows, lane)


def run(pool: Pool, ensemble: Ensemble, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
    return healthy_run(pool, Faulty(ensemble), rows, lane)


def obey() -> None:
    global faults
    for line in sys.stdin:
        order, _, count = line.strip().partition(" ")
        if order == "fail":
            with lock:
                faults = itertools.chain(itertools.repeat(True, int(count)), itertools.repeat(False))
        elif order == "wait":
            flowing.clear()
        else:
            flowing.set()
        print(line, end="", flush=True)


flowing.set()
Pool.execute = run  # type: ignore[method-assign]
threading.Thread(target=obey, daemon=True).start()
sys.exit(main())
