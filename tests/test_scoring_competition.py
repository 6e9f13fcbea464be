"""The competition's own files: `id,sentence,subject_entity,object_entity,label,source` in,
`id,pred_label,probs` out."""

import ast
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scoring_files import lines_of, summary_of

from engine.tuning import TunedEnsemble
from models.example import Example
from models.labels import COMPETITION_RELATIONS, COMPETITION_TO_OFFICIAL, RELATIONS
from scoring.__main__ import main

pytestmark = pytest.mark.usefixtures("engine")

HEADER = "id,sentence,subject_entity,object_entity,label,source\n"

# Written by hand, as pandas would: quotes doubled, cells with commas in quotes.
TEST_FILE = (
    HEADER
    + """0,강하늘은 이름난 무신이다.,"{'word': '강하늘', 'start_idx': 0, 'end_idx': 2, 'type': 'PER'}","{'word': '무신', 'start_idx': 9, 'end_idx': 10, 'type': 'POH'}",100,own
1,"가람, 누리와 '다솜'은 ""한빛전자""를 세웠다.","{'word': ""'다솜'"", 'start_idx': 8, 'end_idx': 11, 'type': 'ORG'}","{'word': '""한빛전자""', 'start_idx': 14, 'end_idx': 19, 'type': 'ORG'}",100,own
7,"가람, 누리가 웃었다.","{'word': '가람, 누리', 'start_idx': 0, 'end_idx': 5, 'type': 'PER'}","{""word"": ""웃었다"", ""start_idx"": 8, ""end_idx"": 10, ""type"": null}",100,own
x,"O'새벽 \\ 씨는
수원에 산다.","{'word': ""O'새벽 \\\\"", 'start_idx': 0, 'end_idx': 5, 'type': 'PER'}","{'word': '수원', 'start_idx': 10, 'end_idx': 11, 'type': 'LOC'}",,own
"""  # noqa: E501
)

WORDS = [("강하늘", "무신"), ("'다솜'", '"한빛전자"'), ("가람, 누리", "웃었다"), ("O'새벽 \\", "수원")]


def example(row: dict[str, str], subject: str, object_: str) -> Example:
    types = [
        (None if "null" in row[key] else ast.literal_eval(row[key])["type"])
        for key in ("subject_entity", "object_entity")
    ]
    entities = [{"word": word, "type": type_} for word, type_ in zip((subject, object_), types, strict=True)]
    return Example.from_row(
        {"sentence": row["sentence"], "subject_entity": entities[0], "object_entity": entities[1]}
    )


@pytest.fixture
def asked(tmp_path: Path) -> list[Example]:
    """The hand-made rows as the CSV module and the words, not the indices, give them."""
    (tmp_path / "test_data.csv").write_text(TEST_FILE, encoding="utf-8")
    rows = list(csv.DictReader(TEST_FILE.splitlines(keepends=True)))
    return [example(row, *words) for row, words in zip(rows, WORDS, strict=True)]


@pytest.mark.parametrize("order", ["competition", "klue", None])
def test_a_submission_of_hand_made_rows(
    order: str | None,
    asked: list[Example],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "submission.csv"
    flags = ["--label-order", order] if order else []
    assert main([str(tmp_path / "test_data.csv"), str(output), *flags]) == 0
    assert "micro_f1" not in summary_of(capsys)
    assert not (tmp_path / "submission.csv.report.html").exists()
    with output.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "pred_label", "probs"]
    assert [row[0] for row in rows] == ["0", "1", "7", "x"]
    lanes: TunedEnsemble = request.getfixturevalue("tuned")
    predictions = lanes.lanes.predict(asked)
    for (_, label, probs), prediction in zip(rows, predictions, strict=True):
        probabilities = json.loads(probs)
        assert probabilities == ast.literal_eval(probs)
        assert label == prediction.relation
        assert sum(probabilities) == pytest.approx(1)
        names = RELATIONS if order == "klue" else COMPETITION_RELATIONS
        assert names[int(np.argmax(probabilities))] == label
        ordered = (
            prediction.probabilities
            if order == "klue"
            else prediction.probabilities[list(COMPETITION_TO_OFFICIAL)]
        )
        assert np.abs(ordered - probabilities).max() < 1e-4


def test_an_entity_written_as_text_is_never_run(tmp_path: Path) -> None:
    good = "\"{'word': '무신', 'start_idx': 9, 'end_idx': 10, 'type': 'POH'}\",no_relation,own"
    cells = {
        f"__import__('os').mkdir({str(tmp_path / 'run')!r})": "neither a Python literal nor JSON",
        "{'word': '강하늘'": "neither",
        "[1, 2]": "an object is required",
        "강하늘": "neither",
        "": "neither",
        "(" * 9000: "neither",
        "-" * 9000 + "1": "neither",
        "{" * 5000 + "}" * 5000: "neither",
        "[" * 9000: "neither",
        "1" * 9000: "neither",
        "9" * 10001: "longer than 10000 characters",
        "{'word': 강하늘, 'start_idx': 0, 'end_idx': 2, 'type': 'PER'}": "neither",
        "{'word': b'x', 'start_idx': 0.5, 'end_idx': True, 'type': {}}": "a string is required",
        "{'word': '강하늘', 'start_idx': 0, 'end_idx': 2, 'type': 'DOG'}": "one of PER",
        "{'word': '하늘', 'start_idx': 0, 'end_idx': 2, 'type': 'PER'}": "the word is ",
        "{'word': '\\d', 'start_idx': 0, 'end_idx': 2, 'type': 'PER'}": "the word is ",
        "{'word': '강하늘', 'start_idx': 0, 'end_idx': 99, 'type': 'PER'}": "outside the sentence",
        "{'word': '이름난 무신', 'start_idx': 5, 'end_idx': 10, 'type': 'PER'}": "overlap",
        "{[]: 1}": "neither",
        "{'x' 'y'": "neither",
        "'\\": "neither",
        "\0": "neither",
    }
    quoted = ["".join(('"', cell.replace('"', '""'), '"')) for cell in cells]
    text = HEADER + "".join(
        f"{number},강하늘은 이름난 무신이다.,{cell},{good}\n" for number, cell in enumerate(quoted)
    )
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    assert main([str(tmp_path / "train.csv"), str(tmp_path / "out.jsonl")]) == 1
    assert lines_of(tmp_path / "out.jsonl") == []
    rejects: list[dict[str, Any]] = lines_of(tmp_path / "out.jsonl.rejects.jsonl")
    assert [(reject["id"], reject["line"]) for reject in rejects] == [
        (str(number), number + 2) for number in range(len(cells))
    ]
    for reject, reason in zip(rejects, cells.values(), strict=True):
        assert reason in reject["reason"]
    assert not (tmp_path / "run").exists()


def test_a_row_without_an_id_is_submitted_under_its_guid_or_number(tmp_path: Path) -> None:
    row = {
        "sentence": "강하늘은 무신이다.",
        "subject_entity": {"word": "강하늘"},
        "object_entity": {"word": "무신"},
    }
    rows = [row, {**row, "guid": "g"}, {**row, "guid": "g", "id": 5}, {"id": 6}, row]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main([str(tmp_path / "rows.json"), str(tmp_path / "out.csv"), "--to", "submission"]) == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["0", "g", "5", "4"]
