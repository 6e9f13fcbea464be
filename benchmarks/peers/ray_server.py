"""Ray Serve: an HTTP proxy and replicas of a deployment, with @serve.batch around the run.

HTTP is on the loopback, but Ray's own processes listen on every interface: Ray translates 127.0.0.1 to the
machine's address.
"""

import asyncio
import tempfile

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.setup import ROUTE, PeerSetup, PredictionJson
from benchmarks.peers.work import PeerWork
from models.ensemble import EncodedExample

setup = PeerSetup.from_environment()


# the default, 5 ongoing requests, would not fill a batch of 16
@serve.deployment(
    num_replicas=setup.workers, max_ongoing_requests=1024, ray_actor_options={"num_cpus": setup.threads}
)
class RayRelations:
    def __init__(self) -> None:
        self.work = PeerWork(setup)

    @serve.batch(max_batch_size=setup.batch, batch_wait_timeout_s=setup.max_wait_ms / 1000)
    async def predict(self, rows: list[EncodedExample]) -> list[PredictionJson]:
        # in a thread: the replica reads and encodes the next requests meanwhile
        return await asyncio.to_thread(self.work.predict, rows)

    async def __call__(self, request: Request) -> PredictionJson:
        return await self.predict(self.work.encode(await request.json()))


if __name__ == "__main__":
    ray.init(
        num_cpus=setup.workers * setup.threads,
        include_dashboard=False,
        object_store_memory=100 * 1024**2,
        log_to_driver=False,
        _temp_dir=tempfile.gettempdir(),  # already private; Ray's socket paths must stay short
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": setup.port},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    serve.run(RayRelations.bind(), route_prefix=ROUTE, blocking=True)
