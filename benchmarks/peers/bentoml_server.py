"""BentoML: a service with one batchable API. Its batching adapts the wait to the load, so there is no wait to
set.

Its `max_latency_ms` is a deadline (later requests are refused with 503), not a wait: it stays at the default
of a minute. A batchable API takes a list, so a request holds a list of one row. Batches of one are had by not
asking for batching: BentoML refuses a limit of 1.
"""

import os
import sys
from typing import Any

import bentoml

from benchmarks.peers.work import ROUTE, Answer, Setup, Work

setup = Setup.from_environment()
batching = {"batchable": True, "max_batch_size": setup.batch} if setup.batch > 1 else {}


@bentoml.service(
    workers=setup.workers,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    monitoring={"enabled": False},
)
class Relations:
    def __init__(self) -> None:
        self.work = Work(setup)

    @bentoml.api(route=ROUTE, **batching)
    def relations(self, rows: list[dict[str, Any]]) -> list[Answer]:
        return self.work.predict([self.work.encode(row) for row in rows])


if __name__ == "__main__":
    service = "benchmarks.peers.bentoml_server:Relations"
    os.execv(
        sys.executable,
        [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(setup.port)],
    )
