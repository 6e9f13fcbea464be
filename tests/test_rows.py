"""A file of labelled rows is read whole, or refused with its name, its line and what is wrong there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.sentences import Row
from models.labels import RELATION_IDS
from models.rows import InvalidRows, label_ids, read_labelled

GOOD: dict[str, Any] = {
    "guid": "own-1",
    "sentence": "강하늘은 이름난 무신이다.",
    "subject_entity": {"word": "강하늘", "start_idx": 0, "end_idx": 2, "type": "PER"},
    "object_entity": {"word": "무신", "start_idx": 9, "end_idx": 10, "type": "POH"},
    "label": "per:title",
}


def written(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidRows) as refused:
        read_labelled(path)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_good_file_is_read_in_order(rows_file: Path, rows: list[Row]) -> None:
    read = read_labelled(rows_file)
    assert [row.example.sentence for row in read] == [row["sentence"] for row in rows]
    assert [row.label_id for row in read] == [RELATION_IDS[str(row["label"])] for row in rows]


def test_labels_are_an_array_of_ids(tmp_path: Path) -> None:
    read = read_labelled(written(tmp_path, json.dumps(GOOD), json.dumps({**GOOD, "label": "no_relation"})))
    ids = label_ids(read)
    assert ids.dtype == np.int64
    assert ids.tolist() == [29, 0]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""], ids=["LF", "CRLF", "no newline at the end"])
def test_line_endings_do_not_matter(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        (json.dumps(GOOD, ensure_ascii=False) + (ending or "\n") + json.dumps(GOOD) + ending).encode()
    )
    assert len(read_labelled(path)) == 2


def test_a_line_separator_inside_a_sentence_ends_no_row(tmp_path: Path) -> None:
    odd = {**GOOD, "sentence": "강하늘은 이름난 무신이다.\u2028끝\u0085"}
    assert (
        read_labelled(written(tmp_path, json.dumps(odd, ensure_ascii=False)))[0].example.sentence
        == odd["sentence"]
    )


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "not JSON",
        '{"sentence": "강하늘"',
        pytest.param("[" * 100_000, id="nested too deep"),
        pytest.param('{"start_idx": ' + "9" * 5000 + "}", id="a number too long to parse"),
    ],
)
def test_a_line_that_is_not_json_is_named(tmp_path: Path, line: str) -> None:
    assert "line 2: " in refusal(written(tmp_path, json.dumps(GOOD), line, json.dumps(GOOD)))


@pytest.mark.parametrize("value", ["강하늘", 3, None, [3]])
def test_a_row_that_is_no_object_is_named(tmp_path: Path, value: object) -> None:
    assert "line 1: a row is a JSON object" in refusal(written(tmp_path, json.dumps(value)))


@pytest.mark.parametrize(
    "label", ["per:titles", "", "PER:TITLE", None, 30, 2.5, ["per:title"], "per:title\n"]
)
def test_a_label_that_is_no_relation_is_named(tmp_path: Path, label: object) -> None:
    message = refusal(
        written(tmp_path, json.dumps(GOOD), json.dumps(GOOD), json.dumps({**GOOD, "label": label}))
    )
    assert "line 3: label: " in message
    assert repr(label) in message


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    unlabelled = {key: value for key, value in GOOD.items() if key != "label"}
    assert "line 1: label: " in refusal(written(tmp_path, json.dumps(unlabelled)))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param(
            {"object_entity": {**GOOD["object_entity"], "end_idx": 11}},
            "object_entity.word: ",
            id="word and span disagree",
        ),
        pytest.param(
            {"object_entity": {"start_idx": 9, "end_idx": 99}},
            "object_entity.end_idx: 99 ",
            id="out of range",
        ),
        pytest.param({"object_entity": GOOD["subject_entity"]}, "object_entity: ", id="overlap"),
        pytest.param(
            {"subject_entity": {"word": "이"}},
            "subject_entity.word: '이' occurs 2 times",
            id="ambiguous word",
        ),
        pytest.param({"subject_entity": None}, "subject_entity: ", id="no entity"),
        pytest.param({"sentence": "\ud800"}, "sentence: ", id="lone surrogate"),
    ],
)
def test_a_bad_span_is_named(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    assert f"line 2: {fault}" in refusal(written(tmp_path, json.dumps(GOOD), json.dumps({**GOOD, **changes})))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.jsonl")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path)).endswith("no rows")
