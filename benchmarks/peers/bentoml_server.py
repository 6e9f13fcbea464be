"""BentoML: a service with one batchable API. BentoML chooses the wait for a batch from the load.

`max_latency_ms` is a deadline, not a wait: later requests get 503. It keeps its default of a minute. A
batchable API takes a list, so a request holds a list of one row. BentoML refuses a limit of 1; without
batching, batches are of one.
"""

import os
import sys
from typing import Any

import bentoml

from benchmarks.peers.setup import ROUTE, PeerSetup, PredictionJson
from benchmarks.peers.work import PeerWork

setup = PeerSetup.from_environment()
batching = {"batchable": True, "max_batch_size": setup.batch} if setup.batch > 1 else {}


@bentoml.service(
    workers=setup.workers,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    monitoring={"enabled": False},
)
class BentoRelations:
    def __init__(self) -> None:
        self.work = PeerWork(setup)

    @bentoml.api(route=ROUTE, **batching)
    def relations(self, rows: list[dict[str, Any]]) -> list[PredictionJson]:
        return self.work.predict([self.work.encode(row) for row in rows])


if __name__ == "__main__":
    service = "benchmarks.peers.bentoml_server:BentoRelations"
    os.execv(
        sys.executable,
        [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(setup.port)],
    )
