"""`python -m api` whose engine fails, or waits, when it is told to; run by tests/test_lifecycle.py. The product has no switch for faults.

A line on standard input says what every run does from then on: `fail`, `wait` or `go`.
"""

import sys
import threading
from collections.abc import Sequence

from api.__main__ import main
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction

healthy_run = Ensemble.run
failing = threading.Event()
flowing = threading.Event()


def run(ensemble: Ensemble, rows: Sequence[EncodedExample]) -> list[Prediction]:
    flowing.wait()
    if failing.is_set():
        raise RuntimeError("injected")
    return healthy_run(ensemble, rows)


def obey() -> None:
    for line in sys.stdin:
        (flowing.clear if line.strip() == "wait" else flowing.set)()
        (failing.set if line.strip() == "fail" else failing.clear)()
        print(line, end="", flush=True)


flowing.set()
Ensemble.run = run  # type: ignore[method-assign]
threading.Thread(target=obey, daemon=True).start()
sys.exit(main())
