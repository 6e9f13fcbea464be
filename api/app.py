"""The application: routes, errors and middleware around one service (`api/seam.py`)."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic import SecretStr
from pydantic.json_schema import models_json_schema
from starlette.types import ASGIApp, Receive, Scope, Send

from api import __version__, errors, routes
from api.page import serving as page
from api.schemas import OneExample, OneSentence, SeveralExamples
from api.seam import Service
from api.telemetry import Telemetry
from api.tracing import Tracing

DOCS_FILES: Final = "/docs/files"
OPEN_PATHS: Final = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
OPEN_FOLDERS: Final = (f"{DOCS_FILES}/", page.FILES)
"""Paths that need no key: an orchestrator's probes have none, and the page and the documents are public."""


def create_app(service: Service, tracing: Tracing | None = None) -> FastAPI:
    """The application around a service. Loading starts with it and goes on in the background."""
    settings = service.settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.load())
        yield
        await loading
        await service.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    documents: dict[str, Any] = {"docs_url": None, "openapi_url": None}
    if settings.docs:
        documents = {"docs_url": "/docs", "openapi_url": "/openapi.json", "static_url": DOCS_FILES}
    make_app = (
        FastAPIOffline if settings.docs else FastAPI
    )  # the former's /docs loads nothing from another host
    app: FastAPI = make_app(
        title="KoRE Serve",
        version=__version__,
        summary="Korean relation extraction",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # the operations' names in generated clients
        **documents,
        redoc_url=None,
        redirect_slashes=False,  # a redirect to an absolute address breaks behind a proxy
        # api/telemetry.py does this.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    routes.install(app, settings.metrics)
    if settings.page:
        page.install(app, settings.docs)
    errors.install(app)
    app.openapi = lambda: _openapi(app, settings.api_key is not None)  # type: ignore[method-assign]
    if settings.api_key is not None:
        app.add_middleware(BearerKey, key=settings.api_key)
    if settings.cors_origins:  # outside the key: a browser's preflight carries none
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Encoding",
                "Content-Type",
                "X-Request-ID",
                "X-Request-Timeout",
            ],
            expose_headers=["Retry-After", "Server-Timing", "X-Request-ID"],
        )
    app.add_middleware(Telemetry, tracing=tracing, access_log=settings.access_log)
    app.add_middleware(Normalise)
    return app


class Normalise:
    """ASGI middleware: `/relations/` is `/relations`, and HEAD is answered as GET. The server, which knows
    the method that was sent, leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].rstrip("/") or "/"
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            if path != scope["path"] or method != scope["method"]:
                scope = {**scope, "path": path, "method": method}
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


class BearerKey:
    """ASGI middleware: every path but `OPEN_PATHS` requires `Authorization: Bearer KEY`."""

    def __init__(self, app: ASGIApp, key: SecretStr) -> None:
        self._app = app
        self._key = key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            scheme, _, token = sent.partition(b" ")
            if not hmac.compare_digest(token.strip(), self._key) or scheme.lower() != b"bearer":
                refusal = errors.response(
                    errors.Unauthorized("a valid bearer token is required"), scope["path"]
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _openapi(app: FastAPI, guarded: bool) -> dict[str, Any]:
    """FastAPI's document with the request schemas and the bearer token added: FastAPI does not know them,
    since this project reads both itself."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, definitions = models_json_schema(
            [(model, "validation") for model in (OneExample, OneSentence, SeveralExamples)],
            ref_template="#/components/schemas/{model}",
        )
        document["components"]["schemas"] |= definitions["$defs"]
        if guarded:
            document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            for path, methods in document["paths"].items():
                for operation in methods.values() if path not in OPEN_PATHS else ():
                    operation["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema
