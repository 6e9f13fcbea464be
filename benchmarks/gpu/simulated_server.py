"""`python -m api --device cuda` on a simulated device, for `benchmarks.gpu.prove`.

The bundle's graphs for CUDA are loaded and proven on the CPU. From then on a batch takes the time of
`bert_large`, `SLOWER` times as long: the queue, not HTTP on a machine of two cores, must limit the device.
Two counters tell the rows and the seconds of the device. With front processes this is also the engine that
the supervisor starts.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

ROWS: Final = "kore_simulated_device_rows"
SECONDS: Final = "kore_simulated_device_seconds"
SLOWER: Final = 10


def simulate_device() -> None:
    """Replace the runs of the lanes, and what measures them when a bundle loads."""
    from prometheus_client import Counter

    from api.metrics import REGISTRY
    from benchmarks.gpu.simulated import PREDICTION, bert_large
    from engine import tuning
    from engine.lanes import Lanes
    from engine.pool import Pool
    from models.classifier import CPU
    from models.encoding import EncodedExample
    from models.ensemble import PROVIDERS, Ensemble
    from models.example import Prediction

    rows_counted = Counter(ROWS, "Rows that the simulated device has run", registry=REGISTRY)
    seconds_counted = Counter(SECONDS, "Seconds of the simulated device", registry=REGISTRY)
    device = threading.Lock()  # a device runs one batch at a time, also with several lanes

    def measured(lanes: Lanes, rows: int, length: int, lane: int = 0) -> float:
        began = time.perf_counter()
        with device:
            time.sleep(SLOWER * bert_large(rows, length))
        return time.perf_counter() - began

    def execute(
        pool: Pool, ensemble: Ensemble, rows: Sequence[EncodedExample], lane: int
    ) -> list[Prediction]:
        seconds = bert_large(len(rows), max(map(len, rows)))
        with device:
            time.sleep(SLOWER * seconds)
        rows_counted.inc(len(rows))
        seconds_counted.inc(seconds)
        return [PREDICTION] * len(rows)

    PROVIDERS["cuda"] = CPU
    tuning._run_seconds = measured
    Pool.execute = execute  # type: ignore[method-assign]


def main() -> int:
    from api.metrics import SHARED_FOLDER

    if SHARED_FOLDER in os.environ:
        from api.fronts.engine import main as live

        simulate_device()
        return live()
    if int(os.environ.get("KORE_HTTP_PROCESSES", "0")):
        from api.fronts import supervisor

        supervisor.ENGINE = "benchmarks.gpu.simulated_server"
    else:
        simulate_device()
    from api.__main__ import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
