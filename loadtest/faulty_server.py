"""`python -m api` whose engine fails, or waits, when it is told to; run by tests and trials. The product has no switch for faults.

A line on standard input is an order, and is repeated on standard output once it holds: `wait` holds every run, `go` lets them pass,
`fail N` lets the next N runs raise.
"""

import itertools
import sys
import threading
from collections.abc import Iterator, Sequence

from api.__main__ import main
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction

healthy_run, healthy_prove = Ensemble.run, Ensemble.prove
proving = threading.local()
flowing = threading.Event()
faults: Iterator[bool] = itertools.repeat(False)
lock = threading.Lock()


def run(ensemble: Ensemble, rows: Sequence[EncodedExample]) -> list[Prediction]:
    if not getattr(proving, "now", False):
        flowing.wait()
        with lock:
            fails = next(faults)
        if fails:
            raise RuntimeError("injected")
    return healthy_run(ensemble, rows)


def prove(ensemble: Ensemble) -> None:
    """A bundle is proven without faults: they are meant for requests."""
    proving.now = True
    try:
        healthy_prove(ensemble)
    finally:
        proving.now = False


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
Ensemble.run, Ensemble.prove = run, prove  # type: ignore[method-assign]
threading.Thread(target=obey, daemon=True).start()
sys.exit(main())
