"""Triton Inference Server through PyTriton: Triton's own HTTP front and dynamic batching, the run in Python.

A request holds the row as a string, because Triton's inputs are tensors; its route `generate` takes plain
JSON. Each worker is an instance of the model with the ensemble loaded on its own.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.setup import PeerSetup
from benchmarks.peers.work import PeerWork


class TritonRelations:
    def __init__(self, setup: PeerSetup) -> None:
        self.work = PeerWork(setup)

    @batch
    def __call__(self, row: NDArray[np.bytes_]) -> dict[str, NDArray[Any]]:
        """Strings of shape (rows, 1) to relations and scores of the same shape."""
        found = self.work.predict([self.work.encode(json.loads(text)) for text in row[:, 0]])
        relations = np.array([one["relation"].encode() for one in found])
        return {
            "relation": relations.reshape(-1, 1),
            "score": np.array([one["score"] for one in found], np.float32).reshape(-1, 1),
        }


if __name__ == "__main__":
    setup = PeerSetup.from_environment()
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=setup.port,
        allow_grpc=False,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="relations",
            infer_func=[TritonRelations(setup) for _ in range(setup.workers)],
            inputs=[Tensor(name="row", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="relation", dtype=bytes, shape=(1,)),
                Tensor(name="score", dtype=np.float32, shape=(1,)),
            ],
            config=ModelConfig(
                max_batch_size=setup.batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=1000 * setup.max_wait_ms),
            ),
            strict=True,
        )
        triton.serve()
