"""`python -m api` that counts the CPU seconds inside ONNX Runtime, for `benchmarks.fronts`. With front
processes this is also the engine that the supervisor starts. The product does not count them."""

import os
import sys
import time
from typing import Any, Final

NAME: Final = "kore_onnx_runtime_cpu_seconds"


def count_onnx_runtime() -> None:
    """Add the CPU time of each run to a metric. A lane of one thread runs its graphs itself."""
    import onnxruntime
    from prometheus_client import Counter

    from api.metrics import REGISTRY

    seconds = Counter(NAME, "CPU seconds inside ONNX Runtime", registry=REGISTRY)
    run = onnxruntime.InferenceSession.run

    def timed(session: Any, *arguments: Any, **options: Any) -> Any:
        began_s = time.thread_time()
        try:
            return run(session, *arguments, **options)
        finally:
            seconds.inc(time.thread_time() - began_s)

    onnxruntime.InferenceSession.run = timed


def main() -> int:
    from api.metrics import SHARED_FOLDER

    if SHARED_FOLDER in os.environ:
        from api.fronts.engine import main as live

        count_onnx_runtime()
        return live()
    if int(os.environ.get("KORE_HTTP_PROCESSES", "0")):
        from api.fronts import supervisor

        supervisor.ENGINE = "benchmarks.fronts_server"
    else:
        count_onnx_runtime()
    from api.__main__ import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
