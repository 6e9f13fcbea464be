"""LitServe: decode_request, predict over a batch and encode_response, in worker processes with an HTTP
process each."""

from typing import Any

import litserve

from benchmarks.peers.setup import ROUTE, PeerSetup, PredictionJson
from benchmarks.peers.work import PeerWork
from models.ensemble import EncodedExample


class LitServeRelations(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.work = PeerWork(PeerSetup.from_environment())

    def decode_request(self, request: dict[str, Any]) -> EncodedExample:
        return self.work.encode(request)

    def predict(self, rows: list[EncodedExample] | EncodedExample) -> list[PredictionJson] | PredictionJson:
        """LitServe passes a list only if a batch can hold more than one row."""
        return self.work.predict(rows) if isinstance(rows, list) else self.work.predict([rows])[0]

    def encode_response(self, output: PredictionJson) -> PredictionJson:
        return output


if __name__ == "__main__":
    setup = PeerSetup.from_environment()
    api = LitServeRelations(
        max_batch_size=setup.batch, batch_timeout=setup.max_wait_ms / 1000, api_path=ROUTE
    )
    # fast_queue sends answers over ZeroMQ, which the documentation advises for throughput.
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=setup.workers, timeout=60, fast_queue=True
    )
    server.run(
        host="127.0.0.1", port=setup.port, log_level="warning", access_log=False, generate_client_file=False
    )
