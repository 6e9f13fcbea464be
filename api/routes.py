"""The routes: a request's way from body to answer, and what the server tells about itself."""

import time
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api import __version__
from api.metrics import TRUNCATED, predicted, voted
from api.requests import (
    LONGEST_TIMEOUT_S,
    Head,
    WhileConnected,
    predicted_by,
    read_body,
)
from api.schemas import (
    ONE,
    SENTENCE,
    SHORT,
    FaultsOut,
    InfoOut,
    OneExample,
    OneSentence,
    PredictionOut,
    PredictionsOut,
    ProblemOut,
    RelationsOut,
    SeveralExamples,
    StatusOut,
)
from api.seam import Service
from api.telemetry import record_of
from engine.errors import NotReady
from models.relations import RELATIONS_IN_WORDS

CLIENT_CLOSED_REQUEST: Final = 499


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


_QUESTIONS: Final = [
    {"$ref": f"#/components/schemas/{model.__name__}"} for model in (OneExample, OneSentence, SeveralExamples)
]
_EXAMPLES: Final = {
    "one example": {"value": ONE},
    "all pairs of a sentence": {"value": SENTENCE},
    "several examples": {"value": {"examples": [SHORT, SENTENCE], "top_k": 2}},
}
_REQUEST_BODY: Final = {
    "required": True,
    "content": {"application/json": {"schema": {"anyOf": _QUESTIONS}, "examples": _EXAMPLES}},
}
_PARAMETERS: Final = [
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
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "seconds until it makes sense to ask again", "schema": {"type": "integer"}}
}


def _problem(description: str, detail: Any, **more: Any) -> dict[str, Any]:
    """A status of `POST /relations` for OpenAPI, with an example of its body."""
    model = ProblemOut if isinstance(detail, str) else FaultsOut
    content = {"application/json": {"example": {"detail": detail}}}
    return {"model": model, "description": description, "content": content, **more}


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: _problem("The bearer token is missing or wrong", "a valid bearer token is required"),
    413: _problem(
        "The body or the number of examples exceeds its limit",
        "a request can hold 256 examples; this one holds 300, 240 of them pairs of entities",
    ),
    415: _problem(
        "The body is compressed, and not by gzip",
        "Content-Encoding 'br' is unknown; send gzip or no compression",
    ),
    422: _problem(
        "Not JSON, or an example that cannot be asked; lists every fault",
        [
            {
                "type": "out_of_range",
                "loc": ["body", "examples", 3, "object_entity", "end_idx"],
                "msg": "99 is outside the sentence, whose indices run from 0 to 16",
            }
        ],
    ),
    429: _problem(
        "The queue is full, or the estimated wait exceeds the deadline",
        "estimated wait 3.2 s exceeds the request's deadline",
        headers=_RETRY_AFTER,
    ),
    500: _problem("An internal error; the log has it with the request's id", "internal error"),
    503: _problem(
        "The server is not ready or shuts down, or the engine lost the batch",
        "the server is loading",
        headers=_RETRY_AFTER,
    ),
    504: _problem("The deadline passed", "the deadline passed before the answer was ready"),
}


class PlainRoute(APIRoute):
    """A route whose endpoint takes the request and returns the response. FastAPI's handling of parameters
    is skipped: it doubles the time of a refusal. A route with dependencies is handled by FastAPI as usual."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not self.dependencies:
            self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


async def relations(request: Request) -> Response:
    """Answers one request.

    1. Find its deadline, and check that it is JSON.
    2. Refuse it if the server is not ready, or if it is short and would wait too long. A long one is parsed
       first: its number of examples decides when it can come back.
    3. Read its body.
    4. Parse, check and tokenise its examples.
    5. Wait for the predictions, as long as the client is there.
    """
    service, record = _service(request), record_of(request.scope)
    settings = service.settings
    head = Head.of(request, settings.request_timeout_s)
    deadline = record.began + head.timeout_s
    with service.pool() as pool:
        if head.short:
            deadline = predicted_by(record.began, time.monotonic(), deadline)
            await pool.require_room(deadline)
    try:
        body = await read_body(request, head, settings.max_body_bytes, deadline)
        with service.pool() as pool, WhileConnected(request):
            began = time.monotonic()
            question = await service.reader.read(body, pool.encode, deadline)
            record.encode_s = time.monotonic() - began
            answered = await pool.predict(question.rows, deadline)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)  # for the metrics: the client has left
    record.queue_s, record.inference_s = answered.queue_s, answered.inference_s
    for prediction in answered.predictions:
        voted(prediction.members).inc()
        predicted(prediction.relation).inc()
        if prediction.truncated:
            TRUNCATED.inc()
    return Response(to_json(question.answer(answered.predictions)), media_type="application/json")


async def health() -> StatusOut:
    return StatusOut(status="alive")


async def ready(request: Request) -> StatusOut:
    service = _service(request)
    if service.state != "ready":
        raise NotReady(f"the server is {service.state}", retry_after_s=1)
    return StatusOut(status="ready")


async def info(request: Request) -> dict[str, Any]:
    service = _service(request)
    settings = service.settings
    limits = {
        "max_examples": settings.example_limit,
        "max_queue": settings.max_queue,
        "max_body_bytes": settings.max_body_bytes,
        "max_wait_ms": settings.max_wait_ms,
        "request_timeout_s": settings.request_timeout_s,
    }
    served = await service.describe()
    has_card = bool(served.pop("card", ""))
    return {
        "version": __version__,
        **served,
        "labels": RELATIONS_IN_WORDS,
        "limits": limits,
        "card": has_card and settings.page,
    }


async def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text form."""
    return Response(await _service(request).metrics(), media_type=CONTENT_TYPE_LATEST)


def install(app: FastAPI, with_metrics: bool = True) -> None:
    """Add the routes to an application whose `state.service` is a `Service`."""
    app.router.add_api_route(
        "/relations",
        relations,
        methods=["POST"],
        route_class_override=PlainRoute,
        summary="The relation of two entities of a sentence, or of every pair of its entities",
        responses={200: {"model": PredictionOut | RelationsOut | PredictionsOut}, **_ERRORS},
        openapi_extra={"requestBody": _REQUEST_BODY, "parameters": _PARAMETERS},
    )
    app.router.routes.insert(0, app.router.routes.pop())  # the busiest route is matched first
    app.add_api_route("/health", health, summary="200 while the process lives, also while it loads")
    app.add_api_route(
        "/ready",
        ready,
        summary="200 once the ensemble has loaded and answered the bundle's golden rows",
        responses={503: _ERRORS[503]},
    )
    app.add_api_route(
        "/info",
        info,
        summary="What is served, where and within which limits",
        response_model=InfoOut,
        response_model_exclude_unset=True,
    )
    if with_metrics:
        app.add_api_route("/metrics", metrics, summary="Prometheus metrics", response_class=PlainTextResponse)
