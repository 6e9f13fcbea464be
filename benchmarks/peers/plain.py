"""FastAPI alone: a `def` endpoint runs each request by itself, on the framework's pool of 40 threads. With
`BOUNDED` set, each worker runs one request at a time: more of them would only take turns on its cores."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request

from benchmarks.peers.setup import BOUNDED, ROUTE, PeerSetup, PredictionJson
from benchmarks.peers.work import PeerWork


@asynccontextmanager
async def load(app: FastAPI) -> AsyncIterator[None]:
    app.state.work = PeerWork(PeerSetup.from_environment())
    if BOUNDED in os.environ:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    yield


app = FastAPI(lifespan=load)


@app.post(ROUTE)
def relations(row: dict[str, Any], request: Request) -> PredictionJson:
    work: PeerWork = request.app.state.work
    return work.predict([work.encode(row)])[0]


if __name__ == "__main__":
    setup = PeerSetup.from_environment()
    # uvicorn uses uvloop and httptools, which the requirements install
    uvicorn.run(
        "benchmarks.peers.plain:app",
        port=setup.port,
        workers=setup.workers,
        access_log=False,
        log_level="warning",
    )
