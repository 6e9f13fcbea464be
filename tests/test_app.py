"""The application as a stranger extends it, and what it warns of."""

import asyncio
import gc
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from api import errors, routes
from api.app import create_app
from api.errors import InvalidRequest
from api.reading import read_question, warn_of_near_misses
from api.requests import WhileConnected
from api.service import RelationService
from api.settings import Settings, warn_of_unknown
from api.telemetry import READ_AT, Telemetry
from engine.errors import NotReady, QueueFull
from loadtest.server import running
from models.example import InvalidExample, Problem
from models.labels import RELATIONS

ASKED = {
    "sentence": "강하늘은 이름난 무신이다.",
    "subject_entity": {"word": "강하늘", "type": "PER"},
    "object_entity": {"word": "무신", "type": "POH"},
}


def ask(app: FastAPI, **arguments: Any) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/relations", json=ASKED, **arguments)

    return asyncio.run(post())


@pytest.fixture
def app(tiny_bundle: Path) -> FastAPI:
    """An application whose bundle has not been loaded."""
    return create_app(RelationService(Settings(bundle=tiny_bundle), pytest.fail))


def test_one_route_answers_post_relations_and_no_middleware_does_so_before_it(app: FastAPI) -> None:
    found = [route for route in app.routes if isinstance(route, APIRoute) and route.path == "/relations"]
    assert [(route.methods, route.endpoint) for route in found] == [({"POST"}, routes.relations)]
    app.router.routes.remove(found[0])
    assert ask(app).status_code == 404


def test_an_exception_handler_that_is_added_to_the_app_answers_post_relations(app: FastAPI) -> None:
    @app.exception_handler(NotReady)
    async def tea(request: Request, error: NotReady) -> JSONResponse:
        return JSONResponse({"detail": "tea first"}, 418)

    assert ask(app).status_code == 418


def test_a_dependency_that_is_added_to_the_app_guards_post_relations(app: FastAPI) -> None:
    async def closed_on_sundays() -> None:
        raise HTTPException(403, "closed on Sundays")

    guarded = FastAPI(dependencies=[Depends(closed_on_sundays)])
    guarded.state.service = app.state.service
    routes.install(guarded)
    assert ask(guarded).json() == {"detail": "closed on Sundays"}


def test_a_misspelt_variable_is_named_with_the_setting_it_resembles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KORE_MAX_QUEU", "5")
    monkeypatch.setenv("KORE_XYZZY", "1")
    monkeypatch.setenv("KORE_MAX_QUEUE", "5")
    monkeypatch.setenv("KORE_PORT_8000_TCP_ADDR", "10.0.0.1")
    warn_of_unknown(logging.getLogger("kore"))
    assert [record.getMessage() for record in caplog.records] == [
        "KORE_MAX_QUEU is not a setting and is ignored; did you mean KORE_MAX_QUEUE?",
        "KORE_XYZZY is not a setting and is ignored",
    ]


class Engine:
    """A service and its pool; they note until when the predictions must be there."""

    settings = Settings()

    def __init__(self) -> None:
        self.deadlines: list[float] = []

    def pool(self) -> "Engine":
        return self

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None: ...

    async def require_room(self, deadline: float) -> None:
        self.deadlines.append(deadline)
        raise QueueFull("enough seen", retry_after_s=7)


@pytest.mark.parametrize(
    ("waited_s", "timeout_s", "left_s"),
    [(0.0, 2, 2), (0.25, 2, 0.75), (0.5, 2, -0.5), (0.75, 2, -1.75), (5, 2, -23), (0.5, 30, 27.5)],
)
def test_the_wait_for_the_event_loop_counts_before_a_body_is_read(
    waited_s: float, timeout_s: float, left_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.time", SimpleNamespace(monotonic=lambda: 100.0))
    engine, app = Engine(), FastAPI()
    app.state.service = engine
    routes.install(app)
    errors.install(app)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        pytest.fail("the body was read")

    headers = [(b"content-length", b"99"), (b"x-request-timeout", str(timeout_s).encode())]
    scope = {"type": "http", "method": "POST", "path": "/relations", "headers": headers, "query_string": b""}
    scope[READ_AT] = 100.0 - waited_s
    asyncio.run(Telemetry(app)(scope, receive, send))
    assert sent[0]["status"] == 429
    assert engine.deadlines == [100.0 + left_s]
    assert dict(sent[0]["headers"])[b"retry-after"] == b"7"


def test_a_refused_body_is_freed_without_the_collector() -> None:
    wrong = {**ASKED, "sentence": "다른 문장이다."}
    body = json.dumps({"examples": [ASKED, wrong, {"sentence": ""}, 3]}).encode()

    def encode(asked: object) -> Any:
        raise InvalidExample(Problem(("sentence",), "window", "too long"))

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(InvalidRequest):
                read_question(body, 256, encode)
        assert gc.collect() == 0
    finally:
        gc.enable()


async def block_of(receive: Any, block: Any) -> str:
    """How a block ends that runs while its client is connected."""
    request = Request({"type": "http", "headers": []}, receive)
    try:
        with WhileConnected(request):
            await block
    except ClientDisconnect:
        return "the client has left"
    except asyncio.CancelledError:
        return "cancelled"
    for _ in range(5):
        await asyncio.sleep(0)  # a watch that goes on would cancel the task here
    return "done"


@pytest.mark.parametrize("waits", [True, False])
def test_a_block_is_cancelled_if_its_client_leaves(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.requests.UNWATCHED_S", 0)

    async def run() -> str:
        left, asked = asyncio.Event(), asyncio.Event()

        async def receive() -> Any:
            asked.set()
            await left.wait()
            return {"type": "http.disconnect"}

        async def block() -> None:
            await asked.wait()
            left.set()
            if waits:
                await asyncio.Event().wait()

        return await block_of(receive, block())

    assert asyncio.run(run()) == ("the client has left" if waits else "done")


def test_a_block_that_somebody_else_cancels_stays_cancelled() -> None:
    async def run() -> str:
        never = asyncio.Event()
        task = asyncio.create_task(block_of(never.wait, never.wait()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(run()) == "cancelled"


@pytest.mark.parametrize(
    ("key", "meant"), [("topk", "top_k"), ("topK", "top_k"), ("subjectEntity", "subject_entity")]
)
def test_an_unknown_key_that_resembles_a_known_one_is_warned_of(
    key: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_near_misses({**ASKED, "guid": "klue-re-v1", "label": "per:title", "source": "위키", key: 3})
    assert [record.getMessage() for record in caplog.records] == [
        f"a request has the unknown key '{key}', which is ignored; did it mean {meant}?"
    ]


@pytest.mark.parametrize("on", [True, False])
def test_the_access_log_has_a_line_for_each_request_if_it_is_on(tiny_bundle: Path, on: bool) -> None:
    with running(tiny_bundle, access_log=on) as server:
        assert server.client.post("/relations", json=ASKED).status_code == 200
        assert server.stop() == 0
        lines = [line for line in server.log if "POST /relations 200 in" in line]
    assert len(lines) == (1 if on else 0)


def test_the_documents_load_nothing_from_another_host_and_need_no_key(tiny_bundle: Path) -> None:
    app = create_app(RelationService(Settings(bundle=tiny_bundle, api_key="secret"), pytest.fail))

    async def get(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path)

    page = asyncio.run(get("/docs"))
    assert page.status_code == 200
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 3
    assert [asyncio.run(get(file)).status_code for file in files] == [200] * 3, "and they are this server's"
    assert "//" not in "".join(files)
    assert asyncio.run(get("/openapi.json")).status_code == 200
    assert asyncio.run(get("/info")).status_code == 401


def test_the_openapi_document_names_operations_relations_and_an_example_for_each_status(app: FastAPI) -> None:
    document = app.openapi()
    operations = {
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    }
    assert operations == {"relations", "health", "ready", "info", "metrics"}
    schemas = document["components"]["schemas"]
    assert schemas["PredictionOut"]["properties"]["relation"]["enum"] == list(RELATIONS)
    assert "lanes" in schemas["InfoOut"]["properties"]
    asked = document["paths"]["/relations"]["post"]
    assert len(asked["requestBody"]["content"]["application/json"]["examples"]) == 3
    for status, answer in asked["responses"].items():
        assert status == "200" or answer["content"]["application/json"]["example"]["detail"], status
