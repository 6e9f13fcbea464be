"""What real clients do over a connection: upgrades, half-closes, odd heads, compressed bodies, browsers."""

import asyncio
import gzip
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from api.connection import connection_class
from api.telemetry import READ_AT
from loadtest.server import ServerProcess, running

ASKED = {
    "sentence": "강하늘은 이름난 무신이다.",
    "subject_entity": {"word": "강하늘", "type": "PER"},
    "object_entity": {"word": "무신", "type": "POH"},
}
BODY = json.dumps(ASKED).encode()
ORIGIN = "https://annotate.example"


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[ServerProcess]:
    origins = json.dumps([ORIGIN])
    settings = {"header_timeout_s": 1, "max_body_bytes": 10_000, "cors_origins": origins, "api_key": "secret"}
    with running(tiny_bundle, **settings) as server:
        server.client.headers["Authorization"] = "Bearer secret"
        yield server


def head(*lines: str, length: int = len(BODY)) -> bytes:
    fixed = [
        "POST /relations HTTP/1.1",
        "Host: x",
        "Authorization: Bearer secret",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*fixed, f"Content-Length: {length}", *lines, "", ""]).encode()


def connect(server: ServerProcess) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(30)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the body of one response; the connection stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536) or pytest.fail(f"closed after {received!r}")
    answer_head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in answer_head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536) or pytest.fail("closed within the body")
    return int(answer_head.split()[1]), body


H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
)


@pytest.mark.parametrize("pieces", [1, 2, 3], ids=["one packet", "body later", "body in two"])
def test_an_upgrade_to_h2c_is_ignored_and_the_connection_goes_on(server: ServerProcess, pieces: int) -> None:
    with closing(connect(server)) as connection:
        for piece in {1: [head(*H2C) + BODY], 2: [head(*H2C), BODY], 3: [head(*H2C), BODY[:50], BODY[50:]]}[
            pieces
        ]:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(piece)
        status, body = answer_of(connection)
        assert (status, json.loads(body)["relation"]) == (200, "per:title")
        connection.sendall(head() + BODY)
        assert answer_of(connection)[0] == 200


@pytest.mark.parametrize("size", [1, 100_000], ids=["byte by byte", "head, then body"])
def test_the_requests_of_javas_http_client_are_answered(server: ServerProcess, size: int) -> None:
    """The recorded bytes of two requests of java.net.http.HttpClient in JDK 17.0.19, on one connection; only
    the port and the length are replaced. The client asks for the upgrade again in its second request."""
    java = (
        f"POST /relations HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {len(BODY)}\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
        "Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.19\r\nAuthorization: Bearer secret\r\n"
        "Content-Type: application/json\r\n\r\n"
    ).encode()
    with closing(connect(server)) as connection:
        for _ in range(2):
            for start in range(0, len(java), size):
                connection.sendall(java[start : start + size])
            connection.sendall(BODY)
            status, body = answer_of(connection)
            assert (status, json.loads(body)["relation"]) == (200, "per:title")


@pytest.mark.parametrize(
    "upgrade",
    [("Connection: Upgrade", "Upgrade: websocket"), ("Connection: upgrade, close", "Upgrade: TLS/1.0")],
)
def test_any_other_upgrade_is_ignored_too(server: ServerProcess, upgrade: tuple[str, str]) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(head(*upgrade) + BODY)
        assert answer_of(connection)[0] == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics"])
def test_head_is_get_without_the_body(server: ServerProcess, path: str) -> None:
    head_, get = server.client.head(path), server.client.get(path)
    assert (head_.status_code, head_.content, head_.headers["Content-Type"]) == (
        200,
        b"",
        get.headers["Content-Type"],
    )
    assert int(head_.headers["Content-Length"]) > 0


def test_a_trailing_slash_changes_nothing(server: ServerProcess) -> None:
    counted = 'kore_requests_total{status="200"}'
    before = server.client.get("/metrics").text.partition(counted)[2].split("\n")[0]
    assert (
        server.client.post("/relations/", json=ASKED).json()
        == server.client.post("/relations", json=ASKED).json()
    )
    after = server.client.get("/metrics").text.partition(counted)[2].split("\n")[0]
    assert float(after or 0) - float(before or 0) == 2
    assert [server.client.get(f"{path}/").status_code for path in ("/health", "/ready", "/info")] == [200] * 3


@pytest.mark.parametrize("form", ["one long header", "many headers", "a head that never ends", "a long path"])
def test_a_head_that_is_too_large_is_431_and_ends_the_connection(server: ServerProcess, form: str) -> None:
    sent = {
        "one long header": head(f"X-Long: {'x' * 70_000}"),
        "many headers": head(*(f"X-{number}: {'x' * 100}" for number in range(1000))),
        "a head that never ends": head()[:-2] + b"X-Long: " + b"x" * 400_000,
        "a long path": b"GET /" + b"x" * 400_000,
    }[form]
    with closing(connect(server)) as connection:
        try:
            for start in range(0, len(sent), 16_384):
                connection.sendall(sent[start : start + 16_384])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has already closed
        try:
            received = connection.recv(65536)
        except ConnectionResetError:
            received = b"HTTP/1.1 431"  # the answer was lost to the reset that unread data causes
        assert received.startswith(b"HTTP/1.1 431")
    assert server.client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "sent", [b"", b"POST /rel", head()[:-2]], ids=["nothing", "half a line", "half a head"]
)
def test_a_connection_that_does_not_complete_its_head_is_closed(server: ServerProcess, sent: bytes) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b"", "it ends by itself, within the time-out of the test's socket"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        pytest.param(head() + BODY, b"per:title", id="an answer that takes a while"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"alive", id="an answer at once"),
        pytest.param(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"", id="a refusal at once"),
    ],
)
def test_a_client_that_closes_its_sending_side_gets_its_answer(
    server: ServerProcess, asked: bytes, answer: bytes
) -> None:
    for _ in range(20):
        with closing(connect(server)) as connection:
            connection.sendall(asked)
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 200" if answer else b"HTTP/1.1 401")
        assert answer in received


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY[:40]) + gzip.compress(BODY[40:])),
        ("identity", b"\xef\xbb\xbf" + BODY),
        ("gzip", gzip.compress(b"\xef\xbb\xbf" + BODY)),
    ],
)
def test_compressed_bodies_and_byte_order_marks_are_read(
    server: ServerProcess, encoding: str, body: bytes
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    assert server.client.post("/relations", content=body, headers=headers).json()["relation"] == "per:title"


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", BODY, 415),
        ("gzip, br", BODY, 415),
        ("gzip", BODY, 422),
        ("gzip", gzip.compress(BODY)[:-9], 422),
        ("gzip", gzip.compress(b" " * 10_000_000), 413),
        ("gzip", gzip.compress(BODY) + b"x", 422),
    ],
)
def test_what_cannot_be_decompressed_is_refused(
    server: ServerProcess, encoding: str, body: bytes, status: int
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    assert server.client.post("/relations", content=body, headers=headers).status_code == status


def test_a_browsers_preflight_passes_without_the_key_for_allowed_origins_only(server: ServerProcess) -> None:
    def preflight(origin: str) -> httpx.Response:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-encoding,content-type",
        }
        return httpx.options(f"{server.url}/relations", headers=headers)

    assert preflight(ORIGIN).status_code == 200
    assert preflight(ORIGIN).headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Origin" not in preflight("https://elsewhere.example").headers
    answered = server.client.post("/relations", json=ASKED, headers={"Origin": ORIGIN})
    assert answered.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Retry-After" in answered.headers["Access-Control-Expose-Headers"]
    refused = httpx.post(f"{server.url}/relations", json=ASKED, headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)


def test_a_client_generated_from_the_openapi_document_asks_and_gets_typed_answers(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, options = tmp_path / "openapi.json", tmp_path / "options.json"
    document.write_bytes(httpx.get(f"{server.url}/openapi.json").content)
    options.write_text('{"post_hooks": []}', encoding="utf-8")  # no formatter afterwards
    command = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--meta", "none"]
    command += ["--path", document, "--config", options, "--output-path", tmp_path / "korean_relations"]
    subprocess.run([*command, "--fail-on-warning"], check=True, capture_output=True)
    monkeypatch.syspath_prepend(tmp_path)
    generated = import_module("korean_relations")
    models = import_module("korean_relations.models")
    info, relations = (
        import_module(f"korean_relations.api.default.{name}") for name in ("info", "relations")
    )
    with generated.AuthenticatedClient(base_url=server.url, token="secret") as client:

        def ask(document: dict[str, object], kind: str = "OneExample") -> Any:
            return relations.sync(client=client, body=getattr(models, kind).from_dict(document))

        one = ask(ASKED | {"top_k": 3})
        assert (one.relation, len(one.probabilities.to_dict())) == ("per:title", 3)
        assert isinstance(one.relation, models.PredictionOutRelation)
        several = ask({"examples": [ASKED, ASKED]}, "SeveralExamples")
        assert [each.relation for each in several.predictions] == ["per:title"] * 2
        (fault,) = ask(ASKED | {"sentence": "무신이다."}).detail
        assert fault.loc == ["body", "subject_entity", "word"]
        served = info.sync(client=client)
        assert (served.state, len(served.labels)) == ("ready", 30)


def test_without_the_setting_there_is_no_cors(tiny_bundle: Path) -> None:
    with running(tiny_bundle) as server:
        headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        assert server.client.options("/relations", headers=headers).status_code == 405
        assert "Access-Control-Allow-Origin" not in server.client.get("/health", headers=headers).headers


def test_metrics_tell_of_the_process_and_the_queue(server: ServerProcess) -> None:
    names = {line.split()[0] for line in server.client.get("/metrics").text.splitlines() if line[0] != "#"}
    assert names >= {
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "kore_queue_limit",
        "kore_estimated_wait_seconds",
    }


def test_a_port_that_kubernetes_wrote_is_ignored_with_a_warning(tiny_bundle: Path) -> None:
    with running(tiny_bundle, port="tcp://10.0.0.1:8000") as server:
        assert "Kubernetes" in server.logged("KORE_PORT=tcp://10.0.0.1:8000 is ignored")


def test_idle_connections_are_closed_and_others_are_answered_meanwhile(server: ServerProcess) -> None:
    idle = [connect(server) for _ in range(300)]
    assert server.client.get("/health").status_code == 200
    assert server.client.post("/relations", json=ASKED).status_code == 200
    for connection in idle:
        assert connection.recv(10) == b""
        connection.close()


def test_a_content_length_of_thousands_of_zeros_is_a_number(server: ServerProcess) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(head().replace(b"Content-Length: ", b"Content-Length: " + b"0" * 5000) + BODY)
        assert answer_of(connection)[0] == 200


@asynccontextmanager
async def connected(
    app: Any, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to an application on this event loop."""
    config = Config(app, http=connection_class(30), lifespan="off", log_config=None, **options)
    config.load()
    listener = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config, ServerState(), {}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    listener.close()


def test_a_request_is_dated_when_its_head_is_read_or_when_the_one_before_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("api.connection.time", SimpleNamespace(monotonic=lambda: clock.now))
    dates = []

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        dates.append(scope[READ_AT])
        clock.now += 1.0
        await Response()(scope, receive, send)

    async def talk() -> None:
        async with connected(later) as (reader, writer):
            writer.write((head() + BODY) * 3)  # pipelined: one after the other
            for _ in range(3):
                await reader.readuntil(b"\r\n\r\n")

    asyncio.run(talk())
    assert dates == [0.0, 1.0, 2.0]


def test_a_connection_whose_body_follows_its_answer_is_closed_once_it_idles() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("", 429)(scope, receive, send)

    async def talk() -> bytes:
        async with connected(refuse, timeout_keep_alive=1) as (reader, writer):
            writer.write(head())
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(BODY)
            return answer + await asyncio.wait_for(
                reader.read(), 30
            )  # until the server closes the connection

    assert b" 429 " in asyncio.run(talk())


def test_thousands_of_gzip_members_do_not_stop_the_server(server: ServerProcess) -> None:
    packed = gzip.compress(b"") * 400 + gzip.compress(BODY)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    refused = server.client.post("/relations", content=packed, headers=headers)
    assert refused.status_code == 422
    assert "more than 16 members" in refused.json()["detail"][0]["msg"]
