"""Front processes before one engine: the same contract, and what happens when one of the processes dies."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgpack
import numpy as np
import psutil
import pytest
import servers
import test_lifecycle
from conftest import ROOT
from servers import ASKED, metric, post, until
from test_lifecycle import FAULTY, in_background, queued, stalled  # noqa: F401

from api.fronts import supervisor
from api.fronts.channel import Channel
from api.fronts.wire import (
    AskRoom,
    Cancel,
    Describe,
    Failed,
    Malformed,
    Measure,
    Message,
    Predict,
    Predicted,
    Released,
    Status,
    Told,
    Took,
    decode,
    encode,
)
from loadtest.server import ServerProcess
from models.encoding import Encoded, EncodedExample
from models.example import Prediction

running = partial(servers.running, http_processes=2)

IDS = Encoded(
    np.arange(9),
    np.array([1, 4]),
    3,
    True,
    entity_spans=np.array([[2, 4], [5, 6]]),
    entity_types=np.array([1, 0]),
)
MESSAGES: list[Message] = [
    Predict(1, 2, 3.5, [EncodedExample((IDS, IDS)), EncodedExample((IDS,), np.arange(30) < 4)]),
    AskRoom(1, 2, 3.5),
    Describe(7),
    Measure(7),
    Cancel(7),
    Took(2),
    Released(2),
    Predicted(1, 0.25, 0.5, [Prediction(np.arange(30) / 435, 2, truncated=True)]),
    Failed(1, "QueueFull", "the queue is full", 3.0),
    Failed(1, "BatchLost", "the engine failed on this request; it can be sent again", 1),
    Failed(1, "DeadlineExceeded", "the deadline passed", None),
    Told(1, {"state": "ready", "members": [{"name": "하나"}]}),
    Status("draining", 3, "/bundles/mine", "ab" * 32),
]


def kind(message: object) -> str:
    return type(message).__name__


def arrays(
    positions: Sequence[int] = (1, 4),
    spans: Sequence[int] = (2, 4, 5, 6),
    types: Sequence[int] = (1, 0),
    tokens: int = 9,
    second: int = 3,
) -> list[Any]:
    """One encoding of a row, as a front sends it."""
    return [np.array([*positions, *spans, *types, *range(tokens)]).tobytes(), second, False]


@pytest.mark.parametrize("message", MESSAGES, ids=kind)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    arrived = decode(msgpack.unpackb(encode(message)))
    assert type(arrived) is type(message)
    assert encode(arrived) == encode(message)


def test_rows_and_predictions_keep_their_arrays() -> None:
    sent, arrived = MESSAGES[0], decode(msgpack.unpackb(encode(MESSAGES[0])))
    assert isinstance(sent, Predict)
    assert isinstance(arrived, Predict)
    for one, other in zip(sent.rows, arrived.rows, strict=True):
        assert len(one) == len(other)
        for name in ("entity_positions", "entity_spans", "entity_types"):
            assert np.array_equal(getattr(one.encodings[0], name), getattr(other.encodings[0], name))
        assert other.truncated
    assert arrived.rows[0].allowed is None
    assert np.flatnonzero(arrived.rows[1].allowed).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("message", MESSAGES, ids=kind)
def test_a_message_with_a_wrong_field_is_refused(message: Message) -> None:
    values = msgpack.unpackb(encode(message))
    for place in range(len(values)):
        with pytest.raises(Malformed):
            decode([*values[:place], object(), *values[place + 1 :]])
    for wrong in (values[:-1], [*values, 1], [], None, "Took", {"Took": 1}):
        with pytest.raises(Malformed):
            decode(wrong)


@pytest.mark.parametrize(
    "row",
    [
        [None, []],
        [b"\1" * 29, [arrays()]],
        [None, [arrays(tokens=0)]],
        [None, [[arrays()[0][:-1], 0, False]]],
        [None, [[arrays()[0][:56], 0, False]]],
        [None, [arrays(positions=[1, 9])]],
        [None, [arrays(positions=[-1, 2])]],
        [None, [arrays(second=10)]],
        [None, [arrays(spans=[0, 1, 5, 10])]],
        [None, [arrays(spans=[0, 1, 5, 5])]],
        [None, [arrays(types=[0, 7])]],
        [None, [arrays()[:2]]],
    ],
)
def test_a_row_that_no_front_encodes_is_refused(row: object) -> None:
    good = [None, [arrays()]]
    assert isinstance(decode(["Predict", 1, 1, 1.0, [good]]), Predict)
    with pytest.raises(Malformed):
        decode(["Predict", 1, 1, 1.0, [row]])


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x93\1\2\3"]
)
def test_what_is_no_message_closes_the_connection_and_nothing_else(garbage: bytes, tmp_path: Path) -> None:
    read: list[Message] = []

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Channel(read.append, lambda: None), tmp_path / "s")
        bad, good = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(2)]
        bad[1].write(garbage + encode(Took(1)))
        assert await bad[0].read() == b""
        good[1].write(encode(Took(2)))
        good[1].write_eof()
        assert await good[0].read() == b""
        bad[1].close()
        good[1].close()
        server.close()

    asyncio.run(talk())
    assert read[-1] == Took(2)
    assert Took(1) not in read


CONTRACT: list[Callable[..., None]] = [
    test_lifecycle.test_a_failed_run_loses_only_its_own_batch_and_the_engine_is_loaded_again,
    test_lifecycle.test_after_sigterm_every_accepted_request_is_answered_and_the_server_exits_with_0,
    test_lifecycle.test_while_it_drains_the_server_is_not_ready_but_answers,
    test_lifecycle.test_a_batch_that_never_ends_holds_up_neither_its_callers_nor_the_exit,
    test_lifecycle.test_a_batch_that_never_ends_on_a_replaced_engine_does_not_hold_up_the_exit,
    test_lifecycle.test_a_new_bundle_that_never_loads_is_refused_in_time_and_does_not_hold_up_the_exit,
    test_lifecycle.test_sigterm_ends_a_server_whose_first_bundle_never_loads,
    test_lifecycle.test_a_closed_terminal_ends_the_server,
    test_lifecycle.test_under_nohup_a_closed_terminal_changes_nothing,
    test_lifecycle.test_a_new_bundle_takes_over_and_the_old_one_finishes_its_requests,
    test_lifecycle.test_requests_of_a_replaced_engine_are_answered_before_the_server_exits,
    test_lifecycle.test_a_bad_bundle_is_refused_and_the_old_one_goes_on_serving,
    test_lifecycle.test_examples_of_a_client_that_reset_its_connection_leave_the_queue,
    test_lifecycle.test_a_deadline_that_passes_in_the_queue_is_504_and_the_example_is_not_run,
    test_lifecycle.test_a_full_queue_is_429_with_retry_after,
    test_lifecycle.test_metrics_count_requests_and_name_the_stages_as_server_timing_does,
    test_lifecycle.test_metrics_and_docs_can_be_turned_off,
    test_lifecycle.test_log_lines_are_json_with_the_request_they_belong_to,
    test_lifecycle.test_traces_go_to_the_collector_that_the_environment_names,
    test_lifecycle.test_an_idle_server_exits_with_0,
]


@pytest.mark.slow
@pytest.mark.parametrize("test", CONTRACT, ids=lambda test: test.__name__.removeprefix("test_"))
def test_the_contract_holds_with_front_processes(
    test: Callable[..., None], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KORE_HTTP_PROCESSES", "2")
    fixed = {"drain_delay_s": 0}
    test(
        **{
            name: fixed[name] if name in fixed else request.getfixturevalue(name)
            for name in inspect.signature(test).parameters
        }
    )


def processes(server: ServerProcess, module: str) -> list[psutil.Process]:
    """The server's processes that run a module."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if module in child.cmdline()]


def fronts(server: ServerProcess) -> list[psutil.Process]:
    return processes(server, "api.fronts.front")


def connected(server: ServerProcess) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60, trust_env=False)


def connections(server: ServerProcess, number: int) -> Iterator[httpx.Client]:
    """Clients with a new connection each, one after the other: the kernel deals them out to the fronts."""
    for _ in range(number):
        with connected(server) as client:
            yield client


def served_by(server: ServerProcess, client: httpx.Client) -> psutil.Process:
    """The front that a client is connected to."""
    with client.stream("GET", "/health") as answer:
        port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
        (front,) = [
            front
            for front in fronts(server)
            if any(each.raddr and each.raddr.port == port for each in front.net_connections("tcp"))
        ]
        answer.read()
        return front


@pytest.fixture(scope="module")
def served(tiny_bundle: Path) -> Iterator[ServerProcess]:
    with running(tiny_bundle) as server:
        yield server
        assert server.stop() == 0


def test_both_fronts_answer_as_the_server_of_one_process(served: ServerProcess, client: httpx.Client) -> None:
    expected = post(client, ASKED | {"top_k": 30}).json()
    seen = set()
    for caller in connections(served, 40):
        seen.add(served_by(served, caller).pid)
        assert post(caller, ASKED | {"top_k": 30}).json() == expected
    assert len(seen) == 2


def test_metrics_are_the_sums_over_all_processes_at_every_front(served: ServerProcess) -> None:
    before = metric(served.client, 'kore_requests_total{status="422"}')
    for caller in connections(served, 20):
        assert post(caller, {}).status_code == 422
    for caller in connections(served, 10):
        assert metric(caller, 'kore_requests_total{status="422"}') == before + 20
        assert metric(caller, "kore_ready") == 1
    text = served.client.get("/metrics").text
    assert "# HELP kore_requests_total Requests to /relations by HTTP status" in text
    assert metric(served.client, "process_resident_memory_bytes") > 150e6


def test_info_describes_the_engine(served: ServerProcess, client: httpx.Client) -> None:
    ours, others = served.client.get("/info").json(), client.get("/info").json()
    assert ours.keys() == others.keys()
    assert ours["bundle"] == others["bundle"]


@pytest.mark.slow
def test_a_front_that_is_killed_loses_only_its_connections_and_no_count(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held, ExitStack() as stack:
        for caller in connections(held, 12):
            assert post(caller, {}).status_code == 422
        held.order("wait")
        callers = stack.enter_context(ThreadPoolExecutor(12))
        clients = [stack.enter_context(connected(held)) for _ in range(12)]
        by = [served_by(held, caller).pid for caller in clients]
        inside = [callers.submit(post, caller, ASKED) for caller in clients]
        until(lambda: queued(held.client) + metric(held.client, "kore_batch_rows_sum") == 12)
        killed = next(pid for pid in by if pid != served_by(held, held.client).pid)
        os.kill(killed, signal.SIGKILL)
        for pid, future in zip(by, inside, strict=True):
            if pid == killed:
                assert isinstance(future.exception(), httpx.TransportError)
        held.order("go")
        for pid, future in zip(by, inside, strict=True):
            if pid != killed:
                assert future.result().status_code == 200
        until(lambda: len(fronts(held)) == 2)
        for caller in connections(held, 20):
            assert post(caller, ASKED).status_code == 200
        assert metric(held.client, 'kore_requests_total{status="422"}') == 12


@pytest.mark.slow
def test_an_engine_that_is_killed_is_503_until_a_new_one_serves(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(8) as callers:
        before = post(held.client, ASKED).json()
        held.order("wait")
        inside = in_background(callers, held.client, 6)
        (engine,) = processes(held, "loadtest.faulty_engine")
        engine.kill()
        for future in inside:
            assert future.result().status_code == 503
            assert future.result().headers["Retry-After"] == "1"
        assert held.client.get("/ready").status_code == 503
        assert held.client.get("/info").json()["state"] == "loading"
        assert held.client.get("/health").status_code == 200
        refused = post(held.client, ASKED)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        until(lambda: held.client.get("/ready").status_code == 200)
        assert post(held.client, ASKED).json() == before
        assert held.stop() == 0


@pytest.mark.slow
def test_a_failed_run_leaves_every_connection_to_the_engine(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held:
        held.order("fail 1")
        assert post(held.client, ASKED).status_code == 503
        for caller in connections(held, 20):
            assert post(caller, ASKED).status_code == 200
        assert metric(held.client, 'kore_requests_total{status="503"}') == 1
        assert not [line for line in held.log if "is no message" in line]


@pytest.mark.slow
def test_a_second_sigterm_ends_every_process_at_once(tiny_bundle: Path) -> None:
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(4) as callers:
        held.order("wait")
        in_background(callers, held.client, 3)
        children = psutil.Process(held.process.pid).children()
        held.process.send_signal(signal.SIGTERM)
        until(lambda: held.client.get("/ready").status_code == 503)
        held.process.send_signal(signal.SIGTERM)
        assert held.process.wait(timeout=30) == 1
        assert psutil.wait_procs(children, timeout=30)[1] == []


@pytest.mark.slow
def test_signals_to_the_whole_group_drain_once(tiny_bundle: Path) -> None:
    """A service manager sends SIGTERM to every process of a service at the same moment."""
    with running(tiny_bundle, FAULTY) as held, ThreadPoolExecutor(8) as callers:
        held.order("wait")
        inside = in_background(callers, held.client, 6)
        for process in psutil.Process(held.process.pid).children():
            process.terminate()
        held.process.terminate()
        until(lambda: held.client.get("/ready").status_code == 503)
        held.order("go")
        assert [future.result().status_code for future in inside] == [200] * 6
        assert held.process.wait(timeout=30) == 0


@pytest.mark.slow
def test_no_process_outlives_a_supervisor_that_is_killed(tiny_bundle: Path) -> None:
    with running(tiny_bundle) as server:
        children = psutil.Process(server.process.pid).children()
        assert len(children) == 3
        (folder,) = {
            Path(argument).parent
            for child in children
            for argument in child.cmdline()
            if "/kore-" in argument
        }
        assert folder.stat().st_mode & 0o777 == 0o700
        server.process.kill()
        assert psutil.wait_procs(children, timeout=30)[1] == []
        assert not folder.exists()


def refused(*flags: str) -> str:
    """The last line of a server that does not start."""
    command = [sys.executable, "-m", "api", "--http-processes", "2", *flags]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 2
    return done.stderr.splitlines()[-1]


def test_a_bundle_that_must_not_be_served_ends_every_process_with_2(tmp_path: Path) -> None:
    assert refused("--port", "0", "--bundle", str(tmp_path / "none")).endswith("none: no such folder")


def test_a_port_that_another_server_shares_is_refused(served: ServerProcess, tiny_bundle: Path) -> None:
    line = refused("--port", str(served.port), "--bundle", str(tiny_bundle))
    assert line == f"api: cannot listen on 127.0.0.1:{served.port}: Address already in use"


def test_without_a_writable_dev_shm_the_socket_is_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with supervisor._private_folder() as folder:
        assert Path(folder).parent == tmp_path


def test_a_front_does_not_load_the_library_that_runs_graphs() -> None:
    code = "import sys, api.app, api.fronts.remote; print('onnxruntime' in sys.modules)"
    answer: Any = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert answer.strip() == "False"
