"""What the API promises, over real HTTP: a server in its own process serves a tiny real ensemble."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unicodedata import normalize

import httpx
import pytest
from conftest import DEFAULT_BUNDLE, ROOT, serve
from manifests import rewrite
from servers import ASKED, post

from api.settings import read_settings
from engine.lanes import Lanes
from loadtest.sentences import Row
from models.bundle import Bundle
from models.example import Example
from models.labels import RELATIONS

SENTENCE = str(ASKED["sentence"])
OBJECT = {"word": "무신", "start_idx": None, "end_idx": None}


@pytest.fixture(
    scope="module", params=[0, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two fronts"]
)
def client(client: httpx.Client, tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """The contract is the same with front processes."""
    if not request.param:
        yield client
        return
    with serve(tiny_bundle, http_processes=request.param) as fronts:
        yield fronts


def asked(**changes: Any) -> dict[str, Any]:
    """The example above with fields replaced; `subject_entity` and `object_entity` are merged, a value of
    None leaves a field out."""
    document = dict(ASKED)
    for name, value in changes.items():
        merged = {**ASKED[name], **value} if isinstance(value, dict) else value
        document[name] = (
            {key: item for key, item in merged.items() if item is not None}
            if isinstance(merged, dict)
            else merged
        )
    return document


def faults(response: httpx.Response) -> list[tuple[list[str | int], str]]:
    assert response.status_code == 422, response.text
    return [(fault["loc"], fault["type"]) for fault in response.json()["detail"]]


def test_one_example_is_answered_by_the_prediction_itself(client: httpx.Client) -> None:
    answer = post(client, asked(top_k=3))
    assert answer.status_code == 200
    prediction = answer.json()
    assert list(prediction) == ["relation", "score", "probabilities", "members", "truncated"]
    assert prediction["relation"] in RELATIONS
    assert len(prediction["probabilities"]) == 3
    assert list(prediction["probabilities"].values()) == sorted(
        prediction["probabilities"].values(), reverse=True
    )
    assert next(iter(prediction["probabilities"].items())) == (prediction["relation"], prediction["score"])
    assert prediction["members"] == 2


def test_all_thirty_probabilities_sum_to_one(client: httpx.Client) -> None:
    probabilities = post(client, asked(top_k=30)).json()["probabilities"]
    assert set(probabilities) == set(RELATIONS)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)


def test_several_examples_are_answered_in_the_order_of_the_request(
    client: httpx.Client, rows: list[Row]
) -> None:
    together = post(client, {"examples": rows[:40], "top_k": 30}).json()["predictions"]
    alone = [post(client, {**row, "top_k": 30}).json() for row in rows[:40]]
    for one, other in zip(together, alone, strict=True):
        assert one["relation"] == other["relation"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_a_server_answers_as_the_bundle_without_http(
    client: httpx.Client, tiny_bundle: Path, rows: list[Row]
) -> None:
    direct = Lanes.load(Bundle.open(tiny_bundle)).predict([Example.from_row(row) for row in rows[:64]])
    served = post(client, {"examples": rows[:64], "top_k": 30}).json()["predictions"]
    for one, other in zip(direct, served, strict=True):
        assert one.relation == other["relation"]
        assert one.top(30) == pytest.approx(other["probabilities"], abs=1e-6)


def test_many_callers_at_once_each_get_their_own_answer(client: httpx.Client, rows: list[Row]) -> None:
    expected = [
        prediction["score"] for prediction in post(client, {"examples": rows[:200]}).json()["predictions"]
    ]
    with ThreadPoolExecutor(16) as callers:
        scores = list(callers.map(lambda row: post(client, row).json()["score"], rows[:200]))
    assert scores == pytest.approx(expected, abs=1e-4)


def test_word_or_indices_may_be_left_out(client: httpx.Client) -> None:
    full = post(client, ASKED).json()
    assert post(client, asked(subject_entity={"word": None}, object_entity={"word": None})).json() == full
    bare = {"start_idx": None, "end_idx": None}
    assert post(client, asked(subject_entity=bare, object_entity=bare)).json() == full


@pytest.mark.parametrize("indices", [True, False], ids=["with indices", "words alone"])
@pytest.mark.parametrize("word_form", ["NFC", "NFD"])
def test_a_decomposed_sentence_gets_the_composed_sentences_answer(
    client: httpx.Client, word_form: str, indices: bool
) -> None:
    sent = normalize("NFD", SENTENCE)
    entities: dict[str, dict[str, Any]] = {}
    for field in ("subject_entity", "object_entity"):
        word = normalize("NFD", ASKED[field]["word"])
        start = sent.index(word)
        span = {"start_idx": start, "end_idx": start + len(word) - 1} if indices else {}
        entities[field] = {"word": normalize(word_form, word), "type": ASKED[field]["type"], **span}
    decomposed = post(client, {"sentence": sent, **entities, "top_k": 30})
    assert decomposed.status_code == 200, decomposed.text
    composed = post(client, asked(top_k=30)).json()["probabilities"]
    assert decomposed.json()["probabilities"] == pytest.approx(composed, abs=1e-4)


def test_a_span_that_splits_a_composed_character_is_422(client: httpx.Client) -> None:
    split = {"word": None, "start_idx": 0, "end_idx": 2}
    response = post(
        client, asked(sentence=normalize("NFD", SENTENCE), subject_entity=split, object_entity=OBJECT)
    )
    assert faults(response) == [(["body", "subject_entity", "end_idx"], "split_character")]


def test_an_exclusive_end_is_told_the_index_that_fits(client: httpx.Client) -> None:
    response = post(client, asked(subject_entity={"end_idx": 3}))
    assert faults(response) == [(["body", "subject_entity", "word"], "word_span_mismatch")]
    assert response.json()["detail"][0]["msg"].endswith("end_idx is inclusive: 2 fits the word")


def test_a_sentence_that_is_cut_is_marked_and_counted(client: httpx.Client) -> None:
    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("kore_truncated_total "))

    before = counted()
    long = asked(sentence=SENTENCE + " 그리고 오래도록 살았다." * 100)
    assert post(client, long).json()["truncated"] is True
    assert post(client, ASKED).json()["truncated"] is False
    assert counted() == before + 1


def test_the_type_may_be_left_out(client: httpx.Client) -> None:
    assert post(client, asked(subject_entity={"type": None}, object_entity={"type": None})).status_code == 200


@pytest.mark.parametrize(
    ("document", "loc", "kind"),
    [
        (asked(object_entity={"word": None, "end_idx": 99}), ["object_entity", "end_idx"], "out_of_range"),
        (
            asked(object_entity={"word": None, "start_idx": -1}),
            ["object_entity", "start_idx"],
            "out_of_range",
        ),
        (asked(object_entity={"word": "문신"}), ["object_entity", "word"], "word_span_mismatch"),
        (asked(object_entity={"word": "순신", "start_idx": 1, "end_idx": 2}), ["object_entity"], "overlap"),
        (asked(object_entity={"word": ""}), ["object_entity", "word"], "empty_word"),
        (asked(object_entity={"end_idx": None}), ["object_entity", "end_idx"], "missing"),
        (
            asked(object_entity={"word": "신", "start_idx": None, "end_idx": None}),
            ["object_entity", "word"],
            "ambiguous_word",
        ),
        (asked(object_entity={"type": "GPE"}), ["object_entity", "type"], "literal_error"),
        (asked(object_entity={"start_idx": "12"}), ["object_entity", "start_idx"], "int_type"),
        (asked(object_entity={"start_idx": True}), ["object_entity", "start_idx"], "int_type"),
        (asked(object_entity={"start_idx": 10**30}), ["object_entity", "start_idx"], "out_of_range"),
        (asked(sentence=" "), ["sentence"], "blank"),
        (asked(sentence=None), ["sentence"], "string_type"),
        (asked(top_k=0), ["top_k"], "greater_than_equal"),
        (asked(top_k=31), ["top_k"], "less_than_equal"),
        ({**ASKED, "examples": [ASKED]}, [], "ambiguous"),
        ({"examples": []}, ["examples"], "list_type"),
        ({"examples": {}}, ["examples"], "list_type"),
        ([ASKED], [], "model_type"),
        ({}, ["sentence"], "missing"),
    ],
)
def test_a_wrong_field_is_refused_with_its_place_and_kind(
    client: httpx.Client, document: Any, loc: list[str], kind: str
) -> None:
    assert (["body", *loc], kind) in faults(post(client, document))


def test_an_ambiguous_word_is_told_how_often_and_where_it_occurs(client: httpx.Client) -> None:
    answer = post(client, asked(object_entity={"word": "신", "start_idx": None, "end_idx": None}))
    assert "occurs 2 times, at start_idx 2, 13" in answer.json()["detail"][0]["msg"]


def test_every_bad_example_of_several_is_listed(client: httpx.Client) -> None:
    bad_type, bad_span = (
        asked(subject_entity={"type": "X"}),
        asked(object_entity={"word": None, "end_idx": 99}),
    )
    found = faults(post(client, {"examples": [ASKED, bad_type, ASKED, bad_span]}))
    assert [loc for loc, _ in found] == [
        ["body", "examples", 1, "subject_entity", "type"],
        ["body", "examples", 3, "object_entity", "end_idx"],
    ]


def test_entities_too_far_apart_for_the_window_are_refused(client: httpx.Client) -> None:
    sentence = "강하늘은 " + "멀고 먼 길을 걸어 " * 60 + "수원에 갔다."
    document = {"sentence": sentence, "subject_entity": {"word": "강하늘"}, "object_entity": {"word": "수원"}}
    assert faults(post(client, document)) == [(["body", "sentence"], "window")]
    near = {
        "sentence": "멀고 먼 길을 걸어 " * 60 + "강하늘은 수원에 갔다.",
        "subject_entity": {"word": "강하늘"},
        "object_entity": {"word": "수원"},
    }
    assert post(client, near).status_code == 200, "a long sentence is cut around its entities"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe{}",
        b'{"sentence": NaN}',
        b'{"sentence": "\\ud800"}',
        b"[" * 100_000,
        b"1" * 5000,
    ],
    ids=["empty", "cut", "null", "utf-16", "nan", "surrogate", "deep", "long-number"],
)
def test_what_is_not_json_is_422(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/relations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=euc-kr"]
)
def test_another_content_type_is_422(client: httpx.Client, kind: str) -> None:
    answer = client.post("/relations", content=json.dumps(ASKED), headers={"Content-Type": kind})
    assert faults(answer) == [(["header", "Content-Type"], "content_type")]


def test_too_many_examples_are_413_with_the_limit_and_what_was_sent(client: httpx.Client) -> None:
    answer = post(client, {"examples": [ASKED] * 257})
    assert answer.status_code == 413
    assert "256" in answer.json()["detail"]
    assert "257" in answer.json()["detail"]


def test_a_request_id_is_echoed_or_made(client: httpx.Client) -> None:
    assert post(client, ASKED, **{"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    assert len(post(client, ASKED).headers["X-Request-ID"]) == 32
    assert post(client, {}).headers["X-Request-ID"]


def test_server_timing_lists_the_stages_and_their_sum_is_within_the_total(client: httpx.Client) -> None:
    timing = post(client, ASKED).headers["Server-Timing"]
    stages = dict(stage.split(";dur=") for stage in timing.split(", "))
    assert list(stages) == ["encode", "queue", "inference", "total"]
    assert sum(float(stages[stage]) for stage in ("encode", "queue", "inference")) <= float(stages["total"])


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan", "inf", "1e9", "1_0", "1e", ""])
def test_a_malformed_timeout_is_422(client: httpx.Client, timeout: str) -> None:
    assert faults(post(client, ASKED, **{"X-Request-Timeout": timeout})) == [
        (["header", "X-Request-Timeout"], "timeout")
    ]


def test_a_deadline_that_cannot_be_met_is_504_or_429(client: httpx.Client) -> None:
    for seconds in ("0.000001", "5e-324"):
        assert post(client, ASKED, **{"X-Request-Timeout": seconds}).status_code in (429, 504)
    assert post(client, ASKED, **{"X-Request-Timeout": "30"}).status_code == 200


def test_health_ready_info_and_docs(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200
    info = client.get("/info").json()
    assert info["bundle"] == "tiny"
    assert [relation["label"] for relation in info["labels"]] == list(RELATIONS)
    assert info["labels"][24] == {
        "label": "per:spouse",
        "name": {"ko": "배우자", "en": "spouse"},
        "definition": {
            "ko": "대상은 주체의 남편이나 아내예요.",
            "en": "The object is the husband or the wife of the subject.",
        },
    }
    assert [member["provider"] for member in info["members"]] == ["CPUExecutionProvider"] * 2
    assert info["limits"]["max_examples"] == 256
    assert client.get("/docs").status_code == 200
    assert client.get("/nothing").status_code == 404
    assert client.get("/relations").status_code == 405


def test_the_openapi_document_describes_both_forms(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schema = document["paths"]["/relations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for form in schema["anyOf"]:
        assert form["$ref"].split("/")[-1] in document["components"]["schemas"]
    operation = document["paths"]["/relations"]["post"]
    assert set(operation["responses"]) == {
        "200",
        "401",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    }
    assert [
        name
        for name, response in operation["responses"].items()
        if "Retry-After" in response.get("headers", {})
    ] == ["429", "503"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "X-Request-Timeout",
        "X-Request-ID",
    }
    assert "securitySchemes" not in document["components"]


@pytest.mark.parametrize("key", ["", " ", "\n", "열려라", "two\nlines", "tab\there", "\udcff\udcfe"])
def test_a_key_that_no_client_can_send_is_refused_at_the_start(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KORE_API_KEY", key)
    with pytest.raises(SystemExit):
        read_settings([])
    assert "KORE_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["KORE_HOST", "KORE_BUNDLE"])
def test_a_blank_host_or_bundle_is_refused_at_the_start(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit):
        read_settings([])
    assert f"api: {name}: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path) -> Iterator[httpx.Client]:
    with serve(tiny_bundle, api_key="open sesame", max_body_bytes=2000, max_queue=4) as connected:
        yield connected


def test_without_the_key_only_the_probes_and_the_documents_answer(guarded: httpx.Client) -> None:
    for path in ("/info", "/metrics"):
        assert guarded.get(path).status_code == 401
    for path in ("/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    refused = post(guarded, ASKED, Authorization="Bearer guess")
    assert refused.status_code == 401
    assert "sesame" not in refused.text
    assert guarded.get("/health").status_code == guarded.get("/ready").status_code == 200
    assert post(guarded, ASKED, Authorization="Bearer open sesame").status_code == 200
    document = guarded.get("/openapi.json", headers={"Authorization": "Bearer open sesame"}).json()
    assert [
        path for path, methods in document["paths"].items() if "security" not in next(iter(methods.values()))
    ] == ["/health", "/ready"]
    assert post(guarded, ASKED, Authorization="bearer open sesame").status_code == 200, (
        "a scheme has no case (RFC 9110)"
    )


def test_a_body_over_the_limit_is_413(guarded: httpx.Client) -> None:
    key = {"Authorization": "Bearer open sesame", "Content-Type": "application/json"}
    announced = guarded.post("/relations", content=b" " * 2001, headers=key)
    streamed = guarded.post("/relations", content=iter([b" " * 1500, b" " * 1500]), headers=key)
    assert announced.status_code == streamed.status_code == 413
    assert "2000" in announced.json()["detail"]


def test_a_request_never_holds_more_examples_than_the_queue(guarded: httpx.Client) -> None:
    small = {"sentence": "가 나", "subject_entity": {"word": "가"}, "object_entity": {"word": "나"}}
    assert post(guarded, {"examples": [small] * 5}, Authorization="Bearer open sesame").status_code == 413
    assert post(guarded, {"examples": [small] * 4}, Authorization="Bearer open sesame").status_code == 200


def test_a_body_that_misses_its_deadline_is_504_and_its_connection_ends(client: httpx.Client) -> None:
    head = (
        "POST /relations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "X-Request-Timeout: 0.2\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as sender:
        sender.sendall(head.encode() + b"{")
        answer = b"".join(iter(lambda: sender.recv(4096), b""))  # to its end: the server closes
    assert answer.startswith(b"HTTP/1.1 504")
    assert b"before the request's body had arrived" in answer


def test_white_space_after_a_header_value_is_no_part_of_it(client: httpx.Client) -> None:
    """httptools keeps it in the value; RFC 9110 (5.5) excludes it."""
    body = json.dumps(ASKED).encode()
    head = (
        "POST /relations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    )
    spaced = "X-Request-Timeout: 20 \t\r\nContent-Encoding: identity \r\nX-Request-ID: mine  \r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as sender:
        sender.sendall((head + spaced).encode() + body)
        answer = b"".join(iter(lambda: sender.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: mine\r\n" in answer


def refused_start(*arguments: str) -> str:
    """The one line with which `python -m api` refuses to start."""
    process = subprocess.run(
        [sys.executable, "-m", "api", "--port", "0", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2, process.stderr
    *before, line = process.stderr.strip().splitlines()
    assert all(json.loads(entry)["level"] == "INFO" for entry in before), "one plain line after the log lines"
    return line


def test_a_wrong_bundle_is_refused_at_the_start(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    rewrite(copy, lambda manifest: manifest["labels"].reverse())
    assert "labels are not KLUE's 30 relations" in refused_start("--bundle", str(copy))
    assert "no such folder" in refused_start("--bundle", str(tmp_path / "nothing"))


def test_a_host_that_cannot_be_one_is_refused_at_the_start(tiny_bundle: Path) -> None:
    assert "cannot listen on 가..나:" in refused_start("--bundle", str(tiny_bundle), "--host", "가..나")


def test_a_gpu_that_is_not_there_is_refused_at_the_start(tiny_bundle: Path) -> None:
    assert "no graphs for cuda" in refused_start("--bundle", str(tiny_bundle), "--device", "cuda")


def test_a_port_that_is_taken_is_refused_at_the_start(tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused_start(
            "--bundle", str(tiny_bundle), "--port", str(port)
        )


@pytest.mark.parametrize(
    "flags", [["--port", "99999"], ["--max-queue", "0"], ["--device", "tpu"], ["--nonsense", "1"]]
)
def test_a_wrong_setting_is_refused_with_its_name(flags: list[str]) -> None:
    assert flags[0].strip("-").replace("-", "_") in refused_start(*flags).lower().replace("-", "_")


def test_the_default_bundle_answers_the_readmes_question_as_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    question = json.loads(re.findall(r"-d '(\{.+?\})'", readme, re.DOTALL)[0])
    promised = json.loads(re.findall(r"```json\n(\{.+?\})\n```", readme, re.DOTALL)[0])
    with serve(DEFAULT_BUNDLE) as connected:
        answer = post(connected, question).json()
    assert answer["relation"] == promised["relation"]
    assert answer["probabilities"] == pytest.approx(promised["probabilities"], abs=0.02)
