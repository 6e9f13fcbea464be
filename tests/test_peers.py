"""The peers benchmark without a peer: the load generator against scripted answers, the gates, the table, the
pins."""

import asyncio
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.peers import environments
from benchmarks.peers.__main__ import read_scans
from benchmarks.peers.comparison import candidates, places
from benchmarks.peers.plot import draw
from benchmarks.peers.report import (
    RULES,
    Rule,
    Standing,
    agreement,
    comparable,
    gate_table,
    judge,
    merge_labels,
    summarise,
    table,
)
from benchmarks.peers.servers import PEERS, Configuration
from benchmarks.peers.setup import PeerSetup
from loadtest.connection import HttpClient, Target
from loadtest.traffic import LOOPBACK, Measurement, closed_loop, make_requests
from loadtest.traffic import summarise as summarise_window

ROOT = Path(__file__).resolve().parents[1]

CUT = b""  # in a script: the connection is closed instead of an answer


def plain(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def relation(name: str) -> bytes:
    return json.dumps({"relation": name, "score": 0.5}).encode()


class ScriptedServer:
    """Answers request after request from a script, then holds the next one until `release` is set."""

    def __init__(self, *script: bytes) -> None:
        self.bodies: list[bytes] = []
        self.script = list(script)
        self.finished = asyncio.Event()
        self.release = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                if not self.script:
                    self.finished.set()
                    await self.release.wait()
                answer = self.script.pop(0) if self.script else plain(relation("after the end"))
                if answer == CUT:
                    break
                writer.write(answer[:40])  # in two pieces, as over a network
                await writer.drain()
                writer.write(answer[40:])
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def drive(
    *script: bytes, rows: int = 3, answer_timeout_s: float = 30, release: bool = True
) -> tuple[Measurement, list[bytes]]:
    """One connection through a script. The request after its end is answered only once the loop has to
    stop."""

    async def run() -> tuple[Measurement, list[bytes]]:
        server, stop = ScriptedServer(*script), asyncio.Event()
        async with await asyncio.start_server(server.handle, LOOPBACK, 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            requests = make_requests(port, [{"row": row} for row in range(rows)])
            async with HttpClient(Target(LOOPBACK, port), answer_timeout_s) as client:
                began_s = time.monotonic()
                loop = asyncio.create_task(closed_loop(client, requests, 1, stop))
                await server.finished.wait()
                stop.set()
                ended_s = time.monotonic()
                if release:
                    server.release.set()
                outcomes = await loop
            server.release.set()
        return summarise_window(outcomes, 1, began_s, ended_s, cpu_s=0.1), server.bodies

    return asyncio.run(asyncio.wait_for(run(), timeout=30))


def test_answers_are_counted_and_rows_sent_in_turn() -> None:
    measurement, bodies = drive(
        plain(relation("per:title")),
        chunked(b'[{"rela', b'tion": "org:founded"}]'),
        plain(relation("no_relation")),
    )
    assert measurement.answers == 3
    assert measurement.errors == {}
    assert measurement.labels == {0: "per:title", 1: "org:founded", 2: "no_relation"}
    assert [json.loads(body)["row"] for body in bodies] == [0, 1, 2, 0]
    assert measurement.rps == pytest.approx(3 / measurement.seconds)
    assert None not in (
        measurement.p50_ms,
        measurement.p95_ms,
        measurement.p99_ms,
        measurement.generator_cpu_ms,
    )


def test_errors_are_counted_apart_and_the_rows_after_them_are_answered() -> None:
    measurement, bodies = drive(
        plain(b"{}", "500 Internal Server Error"),
        CUT,
        plain(relation("per:title"), "429 Too Many Requests"),
        plain(b"<html>"),
        b"SMTP ready and listening to you, dear client of mine\r\n\r\n",
        plain(relation("per:title"), more="Connection: close\r\n"),
        plain(relation("per:spouse")),
    )
    assert measurement.answers == 2
    assert measurement.errors == {"429": 1, "500": 1, "no answer": 2, "wrong answer": 1}
    assert measurement.labels == {2: "per:title", 0: "per:spouse"}
    assert len(bodies) == 8


def test_a_row_that_changes_its_relation_is_noticed() -> None:
    measurement, _ = drive(
        plain(relation("per:title")), plain(relation("per:title")), plain(relation("per:spouse")), rows=1
    )
    assert measurement.labels == {0: "per:title"}
    assert measurement.relabelled == 1


def test_a_request_without_an_answer_is_an_error() -> None:
    measurement, _ = drive(answer_timeout_s=0.1, release=False)
    assert (measurement.answers, measurement.rps, measurement.p99_ms, measurement.generator_cpu_ms) == (
        0,
        0,
        None,
        None,
    )
    assert measurement.errors == {"no answer": 1}


def measured(connections: int, rps: float, p99: float | None = 100.0, **errors: int) -> Measurement:
    return Measurement(connections, 1.0, 10, rps, 10.0, 50.0, p99, errors, {0: "per:title"}, 0, 0.1)


def standing(kind: str, rps: float, p99: float | None = 100.0, title: str = "other") -> Standing:
    figures = summarise([measured(connections, rps, p99) for connections in (1, 16, 64)])
    return Standing(kind, title, title, "as usual", figures, agreement=1.0, relabelled=0)  # type: ignore[arg-type]


def test_figures_are_medians_and_errors_sums() -> None:
    figures = summarise(
        [
            measured(16, 10, 300),
            measured(16, 30, None, refused=1),
            measured(16, 20, 100, refused=2),
            measured(64, 5),
        ]
    )
    assert (figures[16].rps, figures[16].p99_ms, figures[16].errors) == (20, 200, {"refused": 3})
    assert figures[64].rps == 5


def test_rates_must_reach_and_latencies_stay_within_their_limit() -> None:
    ratios = (0.1, 0.5, 0.51, 2.19, 2.2, 9.0)
    assert [ratio for ratio in ratios if Rule("rps", 16, 2.2).holds(ratio)] == [2.2, 9.0]
    assert [ratio for ratio in ratios if Rule("p99_ms", 16, 0.5).holds(ratio)] == [0.1, 0.5]


def test_gates_hold_ours_against_every_server_of_its_kind() -> None:
    ours, peers = (
        standing("ours", 220, 40),
        [standing("plain", 200, 50), standing("batch 16", 100, 80), standing("best", 221, 1)],
    )
    gates = judge([ours, standing("served", 340), *peers])
    assert len(gates) == sum(len(RULES[peer.kind]) for peer in peers)
    assert len(judge([ours, *peers], levels=[16])) == 5
    assert {str(gate): gate.holds for gate in gates} == {
        "requests a second at 1 over other (as usual): 1.10 (at least 1)": True,
        "requests a second at 16 over other (as usual): 1.10 (at least 1)": True,
        "requests a second at 64 over other (as usual): 1.10 (at least 1)": True,
        "p99 at 16 over other (as usual): 0.80 (at most 0.8)": True,
        "requests a second as served at 16 over other (as usual): 1.70 (at least 1.7)": True,
        "requests a second at 16 over other (as usual): 2.20 (at least 2.2)": True,
        "requests a second at 64 over other (as usual): 2.20 (at least 2.2)": True,
        "p99 at 16 over other (as usual): 0.50 (at most 0.5)": True,
        "requests a second as served at 16 over other (as usual): 3.40 (at least 3.5)": False,
        "requests a second at 16 over other (as usual, its best): 1.00 (at least 1)": False,
        "requests a second at 64 over other (as usual, its best): 1.00 (at least 1)": False,
    }


def test_with_models_that_cost_nothing_ours_is_ahead_of_all_but_rust() -> None:
    ours, fronts = standing("ours", 100), standing("fronts", 70)
    peers = [
        standing("batch 16", 101, title="ray"),
        standing("batch 16", 124, title="mosec"),
        standing("pair", 88, title="mosec"),
    ]
    gates = judge([ours, fronts, *peers], levels=[16], overhead=True)
    assert {str(gate): gate.holds for gate in gates} == {
        "requests a second at 16 over ray (as usual): 0.99 (at least 1)": False,
        "requests a second at 16 over mosec (as usual): 0.81 (at least 0.8)": True,
        "requests a second with two fronts at 16 over mosec (as usual): 0.80 (at least 0.8)": False,
    }


def test_a_gate_without_figures_does_not_hold() -> None:
    dead = Standing("best", "other", "other", "as usual", {}, None, 0, ("ended with status 1",))
    assert [gate.holds for gate in judge([standing("ours", 100), dead])] == [False, False]
    assert [gate.holds for gate in judge([standing("ours", 0, None), standing("batch 16", 0, None)])] == [
        False,
        False,
        False,
    ]
    assert judge([dead]) == []


def test_table_and_chart_name_every_server_and_its_problems(tmp_path: Path) -> None:
    standings = [
        standing("ours", 123.456, title="KoRE & co"),
        standing("best", 40, title="peer"),
        Standing("batch 16", "dead", "dead", "x", {}, None, 0, ("KeyError: a|b\n  in line 1\n",)),
    ]
    text = table(standings, "peers")
    draw(standings, tmp_path / "plot.svg")
    picture = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert "KoRE & co | as usual | 123 | 123 | 123 | 100 | 100 | 100 | 100.00% | none |" in text
    assert '| <a id="peers-peer-best"></a>peer | as usual, its best |' in text
    assert "dead | x | - | - | - | - | - | - | - | 1 failed starts: `KeyError: a/b` |" in text
    assert "**no**" in gate_table(judge(standings))
    assert "KoRE &amp; co" in picture
    assert "123.5" in picture


def test_figures_of_a_server_that_did_other_work_do_not_count() -> None:
    good = standing("ours", 100)
    assert all(comparable([good]).values())
    refusing = replace(good, figures={16: replace(good.figures[16], errors={"429": 1})})
    for bad in (
        refusing,
        replace(good, relabelled=1),
        replace(good, agreement=0.5),
        replace(good, failures=["x"]),
        replace(good, figures={}),
    ):
        assert not any(comparable([bad]).values())


def test_agreement_is_over_the_rows_that_both_answered() -> None:
    assert agreement({0: "a", 1: "b", 2: "c"}, {1: "b", 2: "x", 3: "d"}) == 0.5
    assert agreement({0: "a"}, {1: "a"}) is None
    first, second = (
        SimpleNamespace(labels=labels, relabelled=0) for labels in ({0: "a", 1: "b"}, {0: "a", 1: "c"})
    )
    assert merge_labels([first, second]) == ({0: "a", 1: "b"}, 1)  # type: ignore[list-item]


def test_a_setup_survives_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = PeerSetup(
        port=8001, bundle=Path("bundles/default"), batch=16, max_wait_ms=2, workers=1, threads=2
    )
    for name, value in setup.environment().items():
        monkeypatch.setenv(name, value)
    assert PeerSetup.from_environment() == setup


def test_configurations_are_told_in_words() -> None:
    assert str(Configuration("served")) == "defaults"
    assert str(Configuration("plain", 1, 2, 1)) == "2 workers of 1 thread"
    assert str(Configuration("mosec", 16, 1, 2)) == "batch 16, 1 worker of 2 threads"


def test_the_best_of_an_earlier_scan_is_compared(tmp_path: Path) -> None:
    tried = candidates("mosec", cores=2)
    assert [str(one) for one in tried] == [
        "batch 16, 1 worker of 2 threads",
        "batch 1, 2 workers of 1 thread",
        "batch 4, 2 workers of 1 thread",
        "batch 16, 2 workers of 1 thread",
    ]
    rates = dict(zip(tried, (10.0, 30.0, 20.0, 15.0), strict=True))
    scans = [{**asdict(one), "rps": rps} for one, rps in rates.items()]
    (tmp_path / "results.json").write_text(json.dumps({"scans": scans}))
    earlier = read_scans(tmp_path / "results.json")
    assert earlier == {"mosec": rates}
    assert places(["ours", "mosec"], 2, earlier) == [
        ("ours", Configuration("ours")),
        ("batch 16", tried[0]),
        ("best", tried[1]),
    ]
    assert ("pair", tried[3]) in places(["mosec"], 2, earlier, overhead=True)


@pytest.mark.parametrize(
    "peer",
    sorted(
        {peer.environment or name for name, peer in PEERS.items() if peer.package and not peer.classifies}
    ),
)
def test_every_peer_runs_the_models_on_what_ours_runs_them_on(peer: str) -> None:
    ours = set((ROOT / "constraints.txt").read_text().split())
    pins = (environments.REQUIREMENTS / f"{peer}.txt").read_text().splitlines()
    assert {pin for pin in pins if pin.startswith(("onnxruntime==", "pydantic==", "tokenizers=="))} <= ours
    assert all(pin.startswith("#") or "==" in pin for pin in pins if pin)
    assert not any("//" in pin for pin in pins)
