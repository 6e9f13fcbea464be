"""mosec: a Rust process that speaks HTTP and forms the batches, Python workers that deserialize, forward and
serialize."""

import json
import os

from mosec import Server, Worker

from benchmarks.peers.work import ROUTE, Answer, Setup, Work
from models.ensemble import EncodedExample


class Relations(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.work = Work(Setup.from_environment())

    def deserialize(self, data: bytes) -> EncodedExample:
        return self.work.encode(json.loads(data))

    def forward(self, data: list[EncodedExample] | EncodedExample) -> list[Answer] | Answer:
        """mosec hands over a list only where a batch may hold more than one."""
        return self.work.predict(data) if isinstance(data, list) else self.work.predict([data])[0]


if __name__ == "__main__":
    setup = Setup.from_environment()
    # mosec's own settings; its timeout of 3 s would turn a long queue into errors.
    os.environ |= {
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_PORT": str(setup.port),
        "MOSEC_TIMEOUT": "60000",
        "MOSEC_LOG_LEVEL": "warning",
    }
    server = Server()
    server.append_worker(
        Relations, num=setup.workers, max_batch_size=setup.batch, max_wait_time=setup.max_wait_ms, route=ROUTE
    )
    server.run()
