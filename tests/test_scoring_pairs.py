"""Rows of a file that mark several entities of a sentence."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from scoring_files import as_jsonl, summary_of
from servers import post

from loadtest.sentences import Row
from scoring.__main__ import main
from scoring.compare import main as compare

pytestmark = pytest.mark.usefixtures("engine")

SENTENCE: Row = {
    "guid": "pairs-1",
    "sentence": "강하늘은 문다솔과 결혼하였고, 한빛전자의 본부는 수원에 있다.",
    "entities": [
        {"word": "강하늘", "type": "PER"},
        {"word": "문다솔", "type": "PER"},
        {"word": "한빛전자", "type": "ORG"},
        {"word": "수원", "type": "LOC"},
    ],
}
PLACES = [{"word": "수원", "type": "LOC"}, {"word": "본부", "type": "POH"}]
NO_PAIR: Row = {**SENTENCE, "guid": "pairs-2", "entities": PLACES}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_row_with_entities_gets_the_answer_of_http(
    rows: list[Row], tmp_path: Path, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [rows[0], SENTENCE, NO_PAIR, {**SENTENCE, "min_score": 1}, rows[1]]
    (tmp_path / "in.jsonl").write_bytes(as_jsonl(asked))
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--top-k", "3"]) == 0
    summary = summary_of(capsys)
    assert (summary["rows"], summary["scored"], summary["labelled"]) == (5, 5, 2)
    scored = lines(tmp_path / "out.jsonl")
    for row, line in zip(asked, scored, strict=True):
        assert line.pop("guid") == row["guid"]
        answer = post(client, {**row, "top_k": 3}).json()
        assert list(line) == list(answer)
        for one, other in zip(line.get("relations", [line]), answer.get("relations", [answer]), strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
    assert [line.get("pairs") for line in scored] == [None, 9, 0, 9, None]
    assert scored[1]["relations"] != []
    assert scored[3]["relations"] == []


@pytest.mark.parametrize("window", ["1", "2", "12", "100"])
def test_windows_of_any_size_give_the_same_lines(rows: list[Row], tmp_path: Path, window: str) -> None:
    asked = [SENTENCE, *rows[:2], NO_PAIR, SENTENCE]
    (tmp_path / "in.jsonl").write_bytes(as_jsonl(asked))
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--window", window]) == 0
    assert [line["guid"] for line in lines(tmp_path / "out.jsonl")] == [row["guid"] for row in asked]


@pytest.mark.parametrize("output", ["out.csv", "submission.csv", "out.parquet"])
def test_a_form_without_a_place_for_pairs_rejects_them_and_says_what_to_do(
    rows: list[Row], tmp_path: Path, output: str
) -> None:
    if output.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / "in.jsonl").write_bytes(as_jsonl([rows[0], SENTENCE]))
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / output)]) == 0
    (reject,) = lines(tmp_path / f"{output}.rejects.jsonl")
    assert reject["guid"] == "pairs-1"
    assert reject["reason"].startswith("entities: a row with entities is written as JSONL only")


def test_a_bad_entity_is_a_reject_with_its_place(tmp_path: Path) -> None:
    bad = {**SENTENCE, "entities": [{"word": "강하늘"}, {"word": "부산"}]}
    (tmp_path / "in.jsonl").write_bytes(as_jsonl([SENTENCE, bad]))
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    (reject,) = lines(tmp_path / "out.jsonl.rejects.jsonl")
    assert reject["reason"] == "entities.1.word: '부산' does not occur in the sentence"


def test_outputs_with_pairs_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_bytes(as_jsonl([SENTENCE]))
    output = str(tmp_path / "out.jsonl")
    assert main([str(tmp_path / "in.jsonl"), output]) == 0
    assert compare([output, output]) == 2
    assert "row 1 is not a prediction: it holds the pairs of a sentence" in capsys.readouterr().err
