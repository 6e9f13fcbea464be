"""Load tests: latency counts from the schedule, gates break a run, and what is given wrongly is said in one
line."""

import asyncio
import itertools
import json
import math
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadtest.__main__ import main
from loadtest.bodies import Body, judge, make_bodies, mean_examples, read_rows
from loadtest.connection import Target
from loadtest.figures import check_sent, check_spike, percentile, stage_figures
from loadtest.gates import DEFAULT_GATES, Gates, read_profile
from loadtest.outcomes import NO_ANSWER, RIGHT, Outcome, PlannedStage, due_times
from loadtest.report import LoadTestReport
from loadtest.saturation import search
from loadtest.server import ROOT, running
from loadtest.traffic import LOOPBACK, probe, summarise

TINY = """
profiles:
  tiny:
    traffic: mixed
    gates: {p50_ms: 60000, p99_ms: 60000}
    stages:
      - {name: warm, seconds: 1, rate: 10, gated: false}
      - {name: steady, seconds: 2, rate: 20}
  tight:
    traffic: single
    gates: {p50_ms: 0.001, p95_ms: 60000}
    stages:
      - {name: steady, seconds: 1, rate: 20}
"""


@pytest.fixture
def gates_file(tmp_path: Path) -> Path:
    path = tmp_path / "gates.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.mark.slow
def test_gates_that_hold_exit_with_0_and_leave_a_report(
    tiny_bundle: Path, gates_file: Path, tmp_path: Path, capsys
) -> None:
    arguments = ["tiny", "--bundle", str(tiny_bundle), "--gates", str(gates_file), "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert "gevent" not in sys.modules, "it would replace the sockets of every other test"
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert result["kept"] is summary["kept"] is True
    assert [stage["name"] for stage in summary["stages"]] == ["warm", "steady"]
    assert all(
        stage["requests"] > 0 and stage["outcomes"] == {"200": stage["requests"]}
        for stage in summary["stages"]
    )
    assert not any(promise.startswith("warm") for promise in summary["gates"])
    assert "steady" in (tmp_path / "report.html").read_text(encoding="utf-8")
    outcomes = [
        Outcome(**json.loads(line))
        for line in (tmp_path / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert all(outcome.due_s <= outcome.sent_s < outcome.answered_s for outcome in outcomes)


@pytest.mark.slow
def test_a_broken_gate_exits_with_1_and_is_named_and_the_token_is_sent(
    tiny_bundle: Path, gates_file: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    with running(tiny_bundle, api_key="secret") as server:
        arguments = ["tight", "--url", server.url, "--gates", str(gates_file), "--output", str(tmp_path)]
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"loadtest: {server.url}/relations: 401")
        monkeypatch.setenv("KORE_API_KEY", "secret")
        assert main(arguments) == 1
    printed = capsys.readouterr()
    broken = [line for line in printed.err.splitlines() if line.startswith("BROKEN")]
    assert len(broken) == 1
    assert "steady: p50_ms" in broken[0]
    assert broken[0].endswith("over")
    assert json.loads(printed.out.splitlines()[-1])["kept"] is False
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["stages"][0][
        "outcomes"
    ].keys() == {"200"}


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("profiles: [", "expected"),
        ("profiles: {}", "profiles: "),
        (TINY.replace("traffic: mixed", "traffic: heavy"), "profiles.tiny.traffic: "),
        (TINY.replace("p99_ms", "p98_ms"), "profiles.tiny.gates.p98_ms: Extra inputs"),
        (
            TINY.replace("rate: 20}", "rate: 20, load: 0.5}", 1),
            "profiles.tiny.stages.1: Value error, either load",
        ),
        (TINY.replace("name: steady", "name: warm", 1), "two stages have the same name"),
        (TINY.replace("tiny", "other"), "no profile 'tiny'; it has other, tight"),
    ],
)
def test_a_bad_gates_file_exits_with_2_and_one_line(
    gates_file: Path, capsys, written: str, complaint: str
) -> None:
    gates_file.write_text(written, encoding="utf-8")
    assert main(["tiny", "--gates", str(gates_file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"loadtest: {gates_file}: ")
    assert complaint in line


def test_the_report_says_first_that_a_spike_below_the_saturation_is_none() -> None:
    stages = [PlannedStage("steady", 10, 20), PlannedStage("spike", 5, 40)]
    outcomes = {
        "steady": [Outcome(RIGHT, due / 20, due / 20, due / 20 + 0.03) for due in range(200)],
        "spike": [Outcome("429", 10 + due / 40, 10 + due / 40, 10 + due / 40 + 0.001) for due in range(200)],
    }
    figures = {name: stage_figures(found) for name, found in outcomes.items()}
    promises = check_spike("spike", figures["spike"], 39.0)
    assert list(promises.values()) == [True]
    promises |= check_spike("spike", figures["spike"], 41.0)
    page = LoadTestReport("<short>", promises, stages, figures, outcomes, [30.0, 41.0]).render()
    words = [
        "Failed: 1 of 2",
        "a spike must exceed",
        "<td>steady</td>",
        "<td>spike</td>",
        "30.0 examples",
        "<svg",
    ]
    places = [page.index(word) for word in words]
    assert places == sorted(places)
    assert "Load test &lt;short&gt;" in page
    assert "<script" not in page
    passed = LoadTestReport("mixed", {"steady: good": True}, stages, figures, outcomes, []).render()
    assert "Passed: all 1 gates hold" in passed


def test_a_bad_row_exits_with_2_and_says_where(rows_file: Path, tmp_path: Path, capsys) -> None:
    first = rows_file.read_text(encoding="utf-8").splitlines()[0]
    broken = tmp_path / "rows.jsonl"
    broken.write_text(first + '\n{"sentence": "아무도 없다."}\n', encoding="utf-8")
    assert main(["--rows", str(broken)]) == 2
    assert capsys.readouterr().err.startswith(f"loadtest: {broken}:2: a row must be")


def test_the_shipped_gates_can_be_read_and_planned() -> None:
    for name in ("short", "spike", "soak", "mixed", "batch"):
        profile = read_profile(DEFAULT_GATES, name)
        assert profile.needs_saturation
        assert [stage.plan(0.01).rate for stage in profile.stages] == [1] * len(profile.stages)
        assert not profile.stages[0].gated, "the first requests to a server that was just started say little"


def test_latency_counts_from_the_schedule_when_server_and_sender_stall() -> None:
    began_s, stalled_until_s = 100.0, 110.0
    due = list(itertools.takewhile(lambda due_s: due_s < 120.0, due_times(50, began_s, random.Random(1))))
    assert 800 < len(due) < 1200
    outcomes = [
        Outcome(RIGHT, due_s, sent_s, sent_s + 0.02)
        for due_s, sent_s in ((due_s, max(due_s, stalled_until_s)) for due_s in due)
    ]
    found = stage_figures(outcomes)
    assert outcomes[0].seconds == pytest.approx(stalled_until_s - due[0] + 0.02)
    assert outcomes[-1].seconds == pytest.approx(0.02)
    assert found.p99_ms > 9000, "counted from the send it would be 20"
    assert found.late_sends == sum(due_s < stalled_until_s - 0.01 for due_s in due)


def test_errors_count_as_errors_and_not_as_fast_answers() -> None:
    answered = [Outcome(RIGHT, second, second, second + 0.5) for second in range(9)]
    refused = [Outcome("429", 9, 9, 9.001)]
    found = stage_figures(answered + refused)
    assert (found.p50_ms, found.refused_share, found.outcomes) == (
        500.0,
        pytest.approx(0.1),
        {"200": 9, "429": 1},
    )
    assert not all(Gates(p50_ms=600, error_share=0.1).check("x", found).values()), "a refusal is no error"
    assert all(Gates(p50_ms=600, refused_share=0.1).check("x", found).values())
    lost = stage_figures([*answered, Outcome(NO_ANSWER, 9, 9, 9.001)])
    assert not all(Gates(p50_ms=600, refused_share=0.1).check("x", lost).values()), "an error is no refusal"
    assert not Gates(p50_ms=600).check("x", stage_figures(refused))[
        "x: p50_ms at most 600, but nothing was answered rightly"
    ]
    assert not any(Gates().check("x", stage_figures([])).values())


def test_an_answer_is_right_when_it_has_a_relation_for_each_example() -> None:
    single, pair = Body({}, 1), Body({"examples": [{}, {}]}, 2)
    right = {"relation": "no_relation"}

    def said(body: Body, answer: object, status: int = 200) -> str:
        return judge(body, status, json.dumps(answer).encode())

    assert said(single, right) == said(pair, {"predictions": [right, right]}) == RIGHT
    for body, answer in [
        (single, {}),
        (single, None),
        (single, {"relation": ""}),
        (pair, right),
        (pair, {"predictions": [right]}),
    ]:
        assert said(body, answer) == "wrong answer"
    assert said(single, right, 429) == "429"
    assert judge(single, 200, b"<html>") == "wrong answer"
    assert judge(single, 0, None) == "no answer"


def test_mixed_traffic_has_singles_batches_and_entities_without_indices() -> None:
    bodies = make_bodies("mixed", read_rows(None))
    assert {body.document["top_k"] for body in bodies} == {1, 3, 30}
    singles = [body.document for body in bodies if "examples" not in body.document]
    by_word = [row for row in singles if "start_idx" not in row["subject_entity"]]
    assert 0.7 < len(singles) / len(bodies) < 0.9
    assert 0.2 < len(by_word) / len(singles) < 0.4
    assert all(row["sentence"].count(row["subject_entity"]["word"]) == 1 for row in by_word)
    assert mean_examples(bodies) == pytest.approx(2.6, abs=0.2)


@pytest.mark.parametrize("bearable", [0, 1, 7, 35, 99, 3000])
def test_the_search_ends_just_below_the_highest_rate_that_holds(bearable: int) -> None:
    tried: list[int] = []
    found = search(lambda rate: tried.append(rate) or rate <= bearable, first=35)
    assert found <= bearable <= found + max(1, 0.05 * found)
    assert len(tried) == len(set(tried)) <= 16


def test_saturation_counts_what_was_answered_in_its_seconds_and_nothing_else() -> None:
    ended = [Outcome(RIGHT, second - 0.3, second - 0.3, second) for second in (9.9, 10.0, 14.9, 15.0, 15.2)]
    others = [
        Outcome("429", 11.9, 11.9, 12.0),
        Outcome("429", 15.9, 15.9, 16.0),
        Outcome(NO_ANSWER, 14, 14, 74),
    ]
    found = summarise([*ended, *others], connections=1, began_s=10, ended_s=15)
    assert (found.answers, found.rps, found.errors) == (2, 0.4, {"429": 1, NO_ANSWER: 1})


def test_a_sender_that_is_too_slow_says_nothing_of_the_server() -> None:
    found = stage_figures([Outcome(RIGHT, due / 100, due / 100, due / 100) for due in range(900)])
    assert all(check_sent(found, due=900).values())
    assert all(check_sent(found, due=950).values()), "arrivals are random"
    assert not any(check_sent(found, due=2000).values())


def test_probes_do_not_wait_for_each_other() -> None:
    """The path answers after three requests: a probe that waited for the one before it would wait for
    ever."""

    async def trial() -> list[float]:
        stop, third, arrived = asyncio.Event(), asyncio.Event(), itertools.count(1)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if next(arrived) == 3:
                third.set()
                stop.set()
            await third.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nalive")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, LOOPBACK, 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await probe(Target(LOOPBACK, port), "/health", stop, every_s=0.01)

    took = asyncio.run(asyncio.wait_for(trial(), timeout=60))
    assert len(took) >= 3
    assert all(map(math.isfinite, took))


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7
    assert percentile([], 50) is None


def test_a_target_is_read_from_a_url() -> None:
    request = Target.parse("https://host/base/", {"Authorization": "Bearer x"}).post(
        "/relations", {"a": "가"}
    )
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.splitlines()[:3] == [
        b"POST /base/relations HTTP/1.1",
        b"Host: host:443",
        b"Authorization: Bearer x",
    ]
    assert json.loads(body) == {"a": "가"}
    assert Target.parse("http://host").port == 80


def test_a_server_goes_with_the_trial_that_is_told_to_leave(tiny_bundle: Path) -> None:
    trial = "import sys, threading\nfrom pathlib import Path\nfrom loadtest.server import running\n"
    trial += "with running(Path(sys.argv[1])) as server:\n"
    trial += "    print(server.process.pid, flush=True)\n    threading.Event().wait(600)\n"
    with subprocess.Popen(
        [sys.executable, "-c", trial, str(tiny_bundle)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert psutil.wait_procs([server], timeout=60)[1] == []
