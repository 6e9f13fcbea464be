"""Servers for tests, requests to them, and waiting for what they do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from loadtest.server import ServerProcess
from loadtest.server import running as running_with_defaults

ASKED: dict[str, Any] = {
    "sentence": "이순신은 조선 중기의 무신이다.",
    "subject_entity": {"word": "이순신", "start_idx": 0, "end_idx": 2, "type": "PER"},
    "object_entity": {"word": "무신", "start_idx": 12, "end_idx": 13, "type": "POH"},
}
"""A good request."""


def post(client: httpx.Client, document: Any, **headers: str) -> httpx.Response:
    return client.post("/relations", json=document, headers=headers)


@contextmanager
def running(bundle: Path, module: str = "api", **settings: object) -> Iterator[ServerProcess]:
    """A server that is ready. It measures its lanes for one round only: no test needs the fastest lanes."""
    with running_with_defaults(bundle, module, **{"tuning_s": 0, **settings}) as server:
        yield server


@contextmanager
def serve(bundle: Path, **settings: object) -> Iterator[httpx.Client]:
    """A client of a server that is ready. At the end the server is stopped and must exit with 0."""
    with running(bundle, **settings) as server:
        yield server.client
        assert server.stop() == 0


def until(condition: Callable[[], bool]) -> None:
    """Wait until another process or thread has done something. The deadline only ends a test that fails."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition was not true within 30 seconds"


def metric(client: httpx.Client, line: str) -> float:
    """The value of one line of /metrics; 0 while the line is missing."""
    found = [
        text.rpartition(" ")[2]
        for text in client.get("/metrics").text.splitlines()
        if text.startswith(line + " ")
    ]
    return float(found[0]) if found else 0.0
