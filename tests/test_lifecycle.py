"""A server starts, drains, reloads, fails and ends. Processes and signals are real, and no accepted request
is lost."""

import asyncio
import fcntl
import gc
import http.server
import json
import logging
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit
from typing import Any, BinaryIO

import httpx
import pytest
from conftest import ROOT
from manifests import rewrite
from servers import ASKED, metric, post, running, until

from api.listening import address_in_use, tell
from api.logs import NeverWaiting, Seldom
from api.metrics import REGISTRY
from api.service import RelationService
from api.settings import Settings
from loadtest.server import answers

FAULTY = "loadtest.faulty_server"


def queued(client: httpx.Client) -> float:
    return metric(client, "kore_queue_examples")


def in_background(
    callers: ThreadPoolExecutor, client: httpx.Client, requests: int
) -> list["Future[httpx.Response]"]:
    """Requests inside a server whose runs wait: one in each lane, the rest in the queue."""
    lanes = client.get("/info").json()["lanes"]
    before = metric(client, "kore_batch_rows_count")
    futures = []
    for lane in range(lanes):
        futures.append(callers.submit(post, client, ASKED))
        until(lambda taken=before + lane + 1: metric(client, "kore_batch_rows_count") == taken)
    futures += [callers.submit(post, client, ASKED) for _ in range(requests - lanes)]
    until(lambda: queued(client) == requests - lanes)
    return futures


def test_a_failed_run_loses_only_its_own_batch_and_the_engine_is_loaded_again(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held:
        held.order("fail 1")
        lost = post(held.client, ASKED)
        assert lost.status_code == 503
        assert "Retry-After" in lost.headers
        assert "injected" not in lost.text
        held.logged("loaded anew after a failed run")
        held.order("go")
        assert post(held.client, ASKED).status_code == 200
        assert metric(held.client, 'kore_rejections_total{reason="batch_lost"}') == 1


def test_after_sigterm_every_accepted_request_is_answered_and_the_server_exits_with_0(
    tiny_bundle: Path,
) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 10)
        held.process.send_signal(signal.SIGTERM)
        until(lambda: held.client.get("/ready").status_code == 503)
        until(lambda: post(held.client, ASKED, **{"X-Request-Timeout": "0.05"}).status_code == 503)
        assert held.client.get("/health").status_code == 200
        held.order("go")
        assert [future.result().status_code for future in inside] == [200] * 10
        assert held.process.wait(timeout=30) == 0


def test_while_it_drains_the_server_is_not_ready_but_answers(tiny_bundle: Path) -> None:
    with running(tiny_bundle, drain_delay_s=3600) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.client.get("/ready").status_code == 503)
        assert post(server.client, ASKED).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0, "a second signal does not wait"


def test_a_second_sigterm_does_not_wait_for_requests_inside(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(4) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 3)
        held.process.send_signal(signal.SIGTERM)
        until(lambda: held.client.get("/ready").status_code == 503)
        held.process.send_signal(signal.SIGTERM)
        assert held.process.wait(timeout=30) == 1
        assert all(isinstance(future.exception(), httpx.TransportError) for future in inside)


@pytest.mark.slow
def test_a_batch_that_never_ends_holds_up_neither_its_callers_nor_the_exit(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY, drain_grace_s=0) as held, ThreadPoolExecutor(4) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 3)
        held.process.send_signal(signal.SIGTERM)
        answers = [future.result() for future in inside]
        assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(503, "1")] * 3
        assert held.process.wait(timeout=60) == 1


@pytest.mark.slow
def test_a_batch_that_never_ends_on_a_replaced_engine_does_not_hold_up_the_exit(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held:
        held.order("wait")
        assert post(held.client, ASKED, **{"X-Request-Timeout": "0.2"}).status_code == 504
        held.process.send_signal(signal.SIGUSR1)
        held.logged("swapped: ")
        held.process.send_signal(signal.SIGTERM)
        assert held.process.wait(timeout=60) == 1


def test_a_reload_requested_while_the_first_bundle_loads_follows_it(tiny_bundle: Path) -> None:
    async def load() -> None:
        service = RelationService(Settings(bundle=tiny_bundle, tuning_s=0), pytest.fail)
        await service.swap()
        assert service.last_swap is None
        await service.load()
        assert service.last_swap is not None
        assert service.last_swap.outcome == "swapped"
        await service.close()

    asyncio.run(load())


def test_of_many_reloads_at_once_one_runs_and_one_follows(tiny_bundle: Path) -> None:
    async def reload() -> None:
        service = RelationService(Settings(bundle=tiny_bundle, tuning_s=0), pytest.fail)
        await service.load()
        before = swaps()
        await asyncio.gather(*(service.swap() for _ in range(20)))
        assert swaps() == before + 2
        await service.close()

    def swaps() -> float:
        return REGISTRY.get_sample_value("kore_bundle_swaps_total", {"outcome": "swapped"}) or 0.0

    asyncio.run(reload())


@pytest.fixture
def stalled(tmp_path: Path) -> Path:
    """A bundle on a disk that stalls: reading its sums takes for ever."""
    folder = tmp_path / "stalled"
    folder.mkdir()
    os.mkfifo(folder / "SHA256SUMS")
    return folder


@pytest.mark.slow
def test_sigterm_ends_a_server_whose_first_bundle_never_loads(stalled: Path) -> None:
    command = [sys.executable, "-m", "api", "--port", "0", "--bundle", str(stalled), "--drain-delay-s", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert any("listening" in line for line in server.stderr)
        server.terminate()
        assert server.wait(timeout=60) in (0, 1)


@pytest.mark.slow
def test_a_new_bundle_that_never_loads_is_refused_in_time_and_does_not_hold_up_the_exit(
    tiny_bundle: Path, stalled: Path, tmp_path: Path
) -> None:
    current = tmp_path / "current"
    current.symlink_to(tiny_bundle)
    with running(current, swap_limit_s=1) as server:
        current.unlink()
        current.symlink_to(stalled)
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: server.client.get("/info").json()["swapping"])
        server.logged("the new bundle was refused, the old one goes on: it did not load within 1 s")
        assert server.client.get("/info").json()["last_swap"]["outcome"] == "refused"
        assert post(server.client, ASKED).status_code == 200
        server.process.terminate()
        assert server.process.wait(timeout=60) == 1


def test_a_closed_terminal_ends_the_server(tiny_bundle: Path) -> None:
    terminal, seen_by_server = pty.openpty()

    def at_the_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup a child inherits that it is ignored
        fcntl.ioctl(seen_by_server, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-m", "api", "--port", "0", "--bundle", str(tiny_bundle), "--tuning-s", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=at_the_terminal
    ) as server:
        os.close(seen_by_server)
        assert server.stderr is not None
        assert any("ready" in line for line in server.stderr)
        os.close(terminal)
        assert server.wait(timeout=30) == 0


def test_under_nohup_a_closed_terminal_changes_nothing(tiny_bundle: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a new process inherits this
    try:
        with running(tiny_bundle) as server:
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGUSR1)
            server.logged("swapped: ")
            assert server.client.get("/ready").status_code == 200
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_have_handlers_before_anything_large_is_imported() -> None:
    """A container's server is process 1, and the kernel drops signals for which process 1 has no handler."""
    code = "import sys, api.__main__; print(sys.modules.keys() & {'onnxruntime', 'pydantic', 'uvicorn'})"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "set()"


def test_a_replaced_bundle_is_freed_without_a_full_garbage_collection(tiny_bundle: Path) -> None:
    async def swap() -> None:
        service = RelationService(Settings(bundle=tiny_bundle, tuning_s=0), pytest.fail)
        await service.load()
        replaced = weakref.ref(service.pool().tuned.lanes.ensemble)
        gc.disable()
        try:
            await service.swap()
            assert service.last_swap is not None
            assert service.last_swap.outcome == "swapped"
            async with asyncio.timeout(30):
                while replaced() is not None:  # the old engine is retired in this event loop
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
            await service.close()

    asyncio.run(swap())


def test_a_new_bundle_takes_over_and_the_old_one_finishes_its_requests(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    current = tmp_path / "current"
    current.symlink_to(tiny_bundle)
    renamed = Path(shutil.copytree(tiny_bundle, tmp_path / "renamed"))
    rewrite(renamed, lambda manifest: manifest.update(name="the new one"))
    with running(current, FAULTY, token_budget=77) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 10)
        current.unlink()
        current.symlink_to(renamed)
        held.process.send_signal(signal.SIGUSR1)
        held.order("go")
        held.logged("swapped: the new one")
        until(lambda: held.client.get("/info").json()["bundle"] == "the new one")
        assert held.client.get("/info").json()["tuning"]["token_budget"] == 77, (
            "settings hold for the new bundle too"
        )
        assert [future.result().status_code for future in inside] == [200] * 10
        assert post(held.client, ASKED).status_code == 200


def test_requests_of_a_replaced_engine_are_answered_before_the_server_exits(
    tiny_bundle: Path,
) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 6)
        held.process.send_signal(signal.SIGUSR1)
        held.logged("swapped: ")
        held.process.send_signal(signal.SIGTERM)
        until(lambda: held.client.get("/ready").status_code == 503)
        held.order("go")
        assert [future.result().status_code for future in inside] == [200] * 6
        assert held.process.wait(timeout=30) == 0


def test_a_bad_bundle_is_refused_and_the_old_one_goes_on_serving(tiny_bundle: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(tiny_bundle)
    permuted = Path(shutil.copytree(tiny_bundle, tmp_path / "permuted"))
    rewrite(permuted, lambda manifest: manifest["labels"].reverse())
    with running(current) as server:
        before = post(server.client, ASKED).json()
        current.unlink()
        current.symlink_to(permuted)
        server.process.send_signal(signal.SIGUSR1)
        server.logged("the new bundle was refused")
        swap = server.client.get("/info").json()["last_swap"]
        assert swap["outcome"] == "refused"
        assert "labels are not KLUE's" in swap["reason"]
        assert post(server.client, ASKED).json() == before
        assert metric(server.client, 'kore_bundle_swaps_total{outcome="refused"}') == 1


def test_examples_of_a_client_that_reset_its_connection_leave_the_queue(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 6)
        before = queued(held.client)
        body = json.dumps(ASKED).encode()
        with socket.create_connection(("127.0.0.1", held.port)) as leaver:
            head = f"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            leaver.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            until(lambda: queued(held.client) == before + 1)
            # A reset: after a plain close the server still answers; a half-close looks the same.
            leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: queued(held.client) == before)
        held.order("go")
        assert [future.result().status_code for future in inside] == [200] * 6
        until(lambda: metric(held.client, 'kore_requests_total{status="499"}') == 1)


def test_a_deadline_that_passes_in_the_queue_is_504_and_the_example_is_not_run(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 4)
        assert post(held.client, ASKED, **{"X-Request-Timeout": "0.2"}).status_code == 504
        answered = metric(held.client, 'kore_answers_total{members="2"}')
        held.order("go")
        assert [future.result().status_code for future in inside] == [200] * 4
        assert metric(held.client, 'kore_answers_total{members="2"}') == answered + 4


def test_a_full_queue_is_429_with_retry_after(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY, max_queue=4) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        lanes = held.client.get("/info").json()["lanes"]
        inside = in_background(callers, held.client, lanes + 4)
        for refused in (
            post(held.client, ASKED),
            held.client.post("/relations", content=b"{", headers={"Content-Type": "application/json"}),
        ):
            assert refused.status_code == 429, "a short body is refused before it is read"
            assert int(refused.headers["Retry-After"]) >= 1
            assert "total;dur=" in refused.headers["Server-Timing"]
            assert "inference" not in refused.headers["Server-Timing"]
        assert post(held.client, ASKED | {"sentence": "x" * 10_000}).status_code == 422, (
            "a long body is parsed"
        )
        held.order("go")
        assert [future.result().status_code for future in inside] == [200] * (lanes + 4)
        assert metric(held.client, 'kore_rejections_total{reason="queue_full"}') == 2


def test_a_refusal_does_not_wait_for_the_body_and_the_connection_lives_on(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY, max_queue=4) as held, ThreadPoolExecutor(12) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, held.client.get("/info").json()["lanes"] + 4)
        body = json.dumps(ASKED).encode()
        head = (
            "POST /relations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", held.port), timeout=30) as connection:
            connection.sendall(head)
            answers = connection.makefile("rb")
            assert status_of(answers) == 429
            connection.sendall(body + head + body)
            assert status_of(answers) == 429, "the body that came late is no request"
            connection.sendall(head.replace(b"Host", b"Expect: 100-continue\r\nHost"))
            assert status_of(answers) == 100, "who waits to be asked for the body is asked"
            connection.sendall(body)
            assert status_of(answers) == 429
            held.order("go")
            assert [future.result().status_code for future in inside] == [200] * len(inside)
            connection.sendall(head + body)
            assert status_of(answers) == 200


def status_of(answers: BinaryIO) -> int:
    """Reads one response."""
    status, length = int(answers.readline().split()[1]), 0
    while (line := answers.readline().strip().lower()) != b"":
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    answers.read(length)
    return status


def test_metrics_count_requests_and_name_the_stages_as_server_timing_does(tiny_bundle: Path) -> None:
    with running(tiny_bundle) as server:
        post(server.client, {"examples": [ASKED] * 3})
        post(server.client, {})
        assert metric(server.client, 'kore_requests_total{status="200"}') == 1
        assert metric(server.client, 'kore_requests_total{status="422"}') == 1
        assert metric(server.client, 'kore_rejections_total{reason="invalid_request"}') == 1
        assert metric(server.client, 'kore_answers_total{members="2"}') == 3
        assert metric(server.client, "kore_batch_rows_sum") == 3
        assert metric(server.client, "kore_ready") == 1
        for stage in ("encode", "queue", "inference", "request"):
            assert metric(server.client, f"kore_{stage}_seconds_count") >= 1


def test_metrics_and_docs_can_be_turned_off(tiny_bundle: Path) -> None:
    with running(tiny_bundle, metrics="false", docs="false") as server:
        assert [
            server.client.get(path).status_code for path in ("/metrics", "/docs", "/openapi.json", "/redoc")
        ] == [404] * 4
        assert post(server.client, ASKED).status_code == 200


def test_log_lines_are_json_with_the_request_they_belong_to(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held:
        held.order("fail 1")
        post(held.client, ASKED)
        held.logged("was lost")
        lines = [json.loads(line) for line in held.log]
        assert all({"timestamp", "level", "logger", "message", "request_id"} <= line.keys() for line in lines)
        assert "injected" in next(line["exc_info"] for line in lines if "was lost" in line["message"])


def test_a_clock_that_jumps_changes_no_deadline(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = "import itertools, time\nnow = itertools.cycle([0.0, 4e9])\ntime.time = lambda: next(now)\n"
    (tmp_path / "sitecustomize.py").write_text(jumps, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with running(tiny_bundle, FAULTY) as held:
        held.order("wait")
        assert post(held.client, ASKED, **{"X-Request-Timeout": "0.2"}).status_code == 504
        held.order("go")
        assert [post(held.client, ASKED).status_code for _ in range(4)] == [200] * 4
        assert held.stop() == 0


def test_a_warning_that_a_client_can_cause_is_seldom_and_counted() -> None:
    seldom = Seldom("odd", every_s=3600)
    passed = [seldom(logging.makeLogRecord({"msg": message})) for message in ("odd", "odd", "other")]
    assert passed == [True, False, True]


def test_an_address_of_ipv6_is_told_in_brackets(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(host="::1")
    with socket.create_server(("127.0.0.1", 0)) as bound, caplog.at_level(logging.INFO, "kore"):
        tell(settings, bound)
        assert f"http://[::1]:{bound.getsockname()[1]}/" in caplog.text
    assert "[::1]:8000" in address_in_use(settings, OSError("in use"))


def test_a_server_that_cannot_start_ends_with_2_and_does_not_listen_on(tiny_bundle: Path) -> None:
    code = (
        "import sys, api.service; from api.__main__ import main; api.service.RelationService.load = None; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--port", "0", "--bundle", str(tiny_bundle)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1] == "api: the server could not start; the log says why"


def test_a_clock_that_is_set_back_does_not_silence_a_warning() -> None:
    seldom, record = Seldom("odd", every_s=0), logging.makeLogRecord({"msg": "odd"})
    record.created = 4e9
    assert seldom(record)
    record.created = 0.0
    assert seldom(record)


def test_more_connections_than_file_descriptors_do_not_end_the_server(tiny_bundle: Path) -> None:
    with running(tiny_bundle) as server:
        prlimit(server.process.pid, RLIMIT_NOFILE, (64, 64))
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for client in clients:
            client.close()
        until(lambda: answers(server.port, "GET", "/health"))
        assert post(server.client, ASKED).status_code == 200


def test_a_server_on_one_core_has_one_lane(tiny_bundle: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # the server inherits it
    try:
        with running(tiny_bundle) as server:
            assert server.client.get("/info").json()["lanes"] == 1
            assert post(server.client, {"examples": [ASKED] * 9}).status_code == 200
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_korean_path_without_a_locale_and_without_a_home(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "한국어 묶음"))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.delenv("HOME", raising=False)
    with running(bundle) as server:
        assert post(server.client, ASKED).status_code == 200
        assert server.stop() == 0


def test_no_cross_origin_headers_are_sent(client: httpx.Client) -> None:
    answer = post(client, ASKED, Origin="https://elsewhere.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]


class Collector(http.server.BaseHTTPRequestHandler):
    """An OpenTelemetry collector that keeps the names of the spans it is sent."""

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None: ...


def test_traces_go_to_the_collector_that_the_environment_names(tiny_bundle: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        collector.spans = []  # type: ignore[attr-defined]
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
        trace = "0af7651916cd43dd8448eb211c80319c"
        with running(tiny_bundle, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server:
            post(server.client, ASKED, traceparent=f"00-{trace}-b7ad6b7169203331-01")
            assert server.stop() == 0
        spans = {span.name: span for span in collector.spans}  # type: ignore[attr-defined]
        collector.shutdown()
    assert set(spans) == {"POST /relations", "encode", "queue", "inference"}
    assert spans["POST /relations"].trace_id.hex() == trace
    assert all(
        spans[stage].parent_span_id == spans["POST /relations"].span_id
        for stage in ("encode", "queue", "inference")
    )


@pytest.mark.parametrize("drain_delay_s", [0, 1])
def test_an_idle_server_exits_with_0(tiny_bundle: Path, drain_delay_s: int) -> None:
    with running(tiny_bundle, drain_delay_s=drain_delay_s) as server:
        assert server.stop() == 0


def test_a_log_whose_reader_has_stopped_holds_nothing_up_and_tells_what_was_dropped() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "w", encoding="utf-8") as stream:
        log = logging.Logger("full")
        log.addHandler(NeverWaiting(stream))
        for number in range(200):
            log.info("line %d %s", number, "긴 줄 " * 300)  # 200 KB; a pipe holds 64 KB
        read = reader.read(1 << 20).decode(errors="replace")
        assert read.startswith("line 0 ")
        assert "line 199 " not in read
        log.info("the end")
        rest = reader.read(1 << 20).decode()
    written = len(re.findall(r"^line \d+ ", read, re.MULTILINE))
    dropped = int(re.search(r"^(\d+) log records were dropped", rest, re.MULTILINE)[1])  # type: ignore[index]
    assert 200 - written <= dropped <= 200 - written + 1  # one may be cut
    assert rest.endswith("the end\n")
