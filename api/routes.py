"""The routes: a request's way from body to answer, and what the server tells of itself."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from api import __version__, errors
from api.engine import Engine
from api.errors import BodyTimeout, InvalidRequest, TooLarge, fault
from api.metrics import MEASURED_PATH, REGISTRY
from api.schemas import FaultsOut, OneExample, PredictionOut, PredictionsOut, ProblemOut, SeveralExamples
from api.service import RelationService
from engine.errors import Failure, NotReady
from models.labels import RELATIONS

LONGEST_TIMEOUT_S: Final = 86_400
CLIENT_CLOSED_REQUEST: Final = 499
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|\.[0-9]+")
READ_AND_DROPPED: Final = 8
"""A body of up to so many limits is read to its end and dropped: a connection closed on a sender loses it the
413."""

router = APIRouter()


class RelationsFirst:
    """ASGI middleware, innermost: `POST /relations` is answered before FastAPI's router and its layers, which
    take a tenth of the event loop's time for a request (docs/log.md). FastAPI documents the route, and
    answers all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != MEASURED_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            response = await relations(Request(scope, receive, send))
        except Failure as error:
            response = errors.response(error, scope["path"])
        await response(scope, receive, send)


# not async, it would run in a thread, for every request
async def _service(request: Request) -> RelationService:
    service: RelationService = request.app.state.service
    return service


Service = Annotated[RelationService, Depends(_service)]

_REQUEST_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": f"#/components/schemas/{m.__name__}"} for m in (OneExample, SeveralExamples)
                ]
            }
        }
    },
}
_PARAMETERS = [
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "the request's deadline in seconds",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT_S},
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "comes back with the answer, and is in the log",
        "schema": {"type": "string"},
    },
]
_RETRY_AFTER = {
    "Retry-After": {"description": "seconds until it makes sense to come back", "schema": {"type": "integer"}}
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ProblemOut, "description": "The bearer token is missing or wrong"},
    413: {"model": ProblemOut, "description": "Body or number of examples over the limit"},
    422: {
        "model": FaultsOut,
        "description": "Not JSON, or an example that cannot be asked; every fault with its place",
    },
    429: {
        "model": ProblemOut,
        "description": "The queue is full, or the wait would pass the deadline",
        "headers": _RETRY_AFTER,
    },
    500: {
        "model": ProblemOut,
        "description": "Something failed inside; the log has it under the request's id",
    },
    503: {
        "model": ProblemOut,
        "description": "Not ready, shutting down, or the engine lost the batch",
        "headers": _RETRY_AFTER,
    },
    504: {"model": ProblemOut, "description": "The deadline passed"},
}


async def relations(request: Request) -> Response:
    service: RelationService = request.app.state.service
    state = request.state
    deadline = state.began + _timeout(request, service.settings.request_timeout_s)
    _require_json(request)
    try:
        service.engine()  # not ready: said before the body is read
        body = await _read_body(request, service.settings.max_body_bytes, deadline)
        with service.engine() as engine:
            engine.require_room(body, deadline)
            async with _while_connected(request):
                answer = await _answer(engine, body, deadline, state.timings)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)  # for the metrics: nobody reads it
    return Response(to_json(answer), media_type="application/json")


router.add_api_route(
    "/relations",
    relations,
    methods=["POST"],
    summary="The relation between the two marked entities of one sentence, or of several",
    responses={200: {"model": PredictionOut | PredictionsOut}, **_ERRORS},
    openapi_extra={"requestBody": _REQUEST_BODY, "parameters": _PARAMETERS},
)


async def _answer(engine: Engine, body: bytes, deadline: float, timings: dict[str, float]) -> dict[str, Any]:
    began = time.monotonic()
    question = await engine.read(body, deadline)
    timings["encode"] = time.monotonic() - began
    answered = await engine.predict(question, deadline)
    timings.update(queue=answered.queue_s, inference=answered.inference_s)
    return question.answer(answered.predictions)


@router.get("/health", summary="200 while the process lives, also while it loads")
async def health() -> dict[str, str]:
    return {"status": "alive"}


@router.get(
    "/ready",
    summary="200 once the ensemble has loaded and answered the bundle's golden rows",
    responses={503: _ERRORS[503]},
)
async def ready(service: Service) -> dict[str, str]:
    if service.state != "ready":
        raise NotReady(f"the server is {service.state}", retry_after_s=1)
    return {"status": "ready"}


@router.get("/info", summary="What is served, where and within which limits")
async def info(service: Service) -> dict[str, Any]:
    settings = service.settings
    limits = {
        "max_examples": settings.example_limit,
        "max_queue": settings.max_queue,
        "max_body_bytes": settings.max_body_bytes,
        "max_wait_ms": settings.max_wait_ms,
        "request_timeout_s": settings.request_timeout_s,
    }
    return {"version": __version__, **service.describe(), "labels": list(RELATIONS), "limits": limits}


async def metrics() -> Response:
    """Prometheus' text form; added to the app unless `KORE_METRICS` is off."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


@asynccontextmanager
async def _while_connected(request: Request) -> AsyncIterator[None]:
    """The block, unless the client leaves first: then it is cancelled.

    Raises:
        ClientDisconnect: the client has gone.
    """
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        async with asyncio.timeout(None) as stay:
            inside = True

            def leave(_: object) -> None:
                if inside:  # removed, it might still be called: in the tick in which the block ends
                    stay.reschedule(0)  # a time that has passed

            gone.add_done_callback(leave)
            try:
                yield
            finally:
                inside = False
    except TimeoutError:
        raise ClientDisconnect from None
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _timeout(request: Request, default_s: float) -> float:
    text = request.headers.get("X-Request-Timeout")
    if text is None:
        return default_s
    text = text.strip(" \t")  # no part of a header's value, but httptools leaves what stands behind it
    seconds = float(text) if _SECONDS.fullmatch(text) else math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        message = f"a number of seconds above 0 and up to {LONGEST_TIMEOUT_S} is required"
        raise InvalidRequest([fault("timeout", ["header", "X-Request-Timeout"], message)])
    return seconds


def _require_json(request: Request) -> None:
    kind, _, parameters = request.headers.get("Content-Type", "application/json").partition(";")
    charset = next(
        (value.strip(' "') for name, _, value in _pairs(parameters) if name.strip() == "charset"), ""
    )
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise InvalidRequest(
            [fault("content_type", ["header", "Content-Type"], "application/json in UTF-8 is required")]
        )
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise InvalidRequest(
            [
                fault(
                    "content_encoding",
                    ["header", "Content-Encoding"],
                    "a body without compression is required",
                )
            ]
        )


def _pairs(parameters: str) -> list[tuple[str, str, str]]:
    return [parameter.partition("=") for parameter in parameters.lower().split(";")]


async def _read_body(request: Request, limit: int, deadline: float) -> bytes:
    body, size, more = bytearray(), 0, True
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            while more and size <= limit * READ_AND_DROPPED:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size <= limit:
                    body += chunk
    except TimeoutError:
        raise BodyTimeout("the request's deadline passed before its body had come") from None
    if size > limit:
        raise TooLarge(
            f"a body may hold {limit} bytes, {request.headers.get('Content-Length', f'at least {size}')} were sent"
        )
    return bytes(body)
