"""FastAPI with nothing around it: a `def` endpoint that runs each request by itself, on the framework's own
pool of 40 threads; or, with `BOUNDED` set, one request at a time in each worker, as somebody would run it who
knows that the others only take turns on its cores."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request

from benchmarks.peers.work import BOUNDED, ROUTE, Answer, Setup, Work


@asynccontextmanager
async def load(app: FastAPI) -> AsyncIterator[None]:
    app.state.work = Work(Setup.from_environment())
    if BOUNDED in os.environ:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    yield


app = FastAPI(lifespan=load)


@app.post(ROUTE)
def relations(row: dict[str, Any], request: Request) -> Answer:
    work: Work = request.app.state.work
    return work.predict([work.encode(row)])[0]


if __name__ == "__main__":
    setup = Setup.from_environment()
    # uvicorn takes uvloop and httptools by itself where they are installed, and they are.
    uvicorn.run(
        "benchmarks.peers.plain:app",
        port=setup.port,
        workers=setup.workers,
        access_log=False,
        log_level="warning",
    )
