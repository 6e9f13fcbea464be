"""mosec: a Rust process speaks HTTP and forms batches; Python workers deserialize, forward and serialize."""

import json
import os

from mosec import Server, Worker

from benchmarks.peers.setup import ROUTE, PeerSetup, PredictionJson
from benchmarks.peers.work import PeerWork
from models.ensemble import EncodedExample


class MosecRelations(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.work = PeerWork(PeerSetup.from_environment())

    def deserialize(self, data: bytes) -> EncodedExample:
        return self.work.encode(json.loads(data))

    def forward(self, data: list[EncodedExample] | EncodedExample) -> list[PredictionJson] | PredictionJson:
        """mosec passes a list only if a batch can hold more than one row."""
        return self.work.predict(data) if isinstance(data, list) else self.work.predict([data])[0]


if __name__ == "__main__":
    setup = PeerSetup.from_environment()
    # mosec's own settings; its timeout of 3 s would turn a long queue into errors.
    os.environ |= {
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_PORT": str(setup.port),
        "MOSEC_TIMEOUT": "60000",
        "MOSEC_LOG_LEVEL": "warning",
    }
    server = Server()
    server.append_worker(
        MosecRelations,
        num=setup.workers,
        max_batch_size=setup.batch,
        max_wait_time=setup.max_wait_ms,
        route=ROUTE,
    )
    server.run()
