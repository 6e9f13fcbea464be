"""The report on labelled rows, and two outputs compared row by row."""

import hashlib
import json
import os
import re
import tracemalloc
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scoring_files import as_csv, as_jsonl, summary_of

import models.metrics
import scoring.evaluation
from loadtest.sentences import make_long_rows
from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.metrics import auprc, micro_f1
from scoring import compare
from scoring.__main__ import main
from scoring.evaluation import COLUMNS, STORED, evaluate
from scoring.mistakes import KEPT, marked
from scoring.report import render


class Page(HTMLParser):
    """The page's tags, checked for balance, and what they point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)


def labelled_file(path: Path, rows: int, seed: int = 3) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    labels, probabilities = generator.integers(30, size=rows), generator.dirichlet(np.full(30, 0.1), rows)
    table = np.column_stack([labels, probabilities]).astype(STORED)
    table.tofile(path)
    return labels, table[:, 1:]


def test_evaluation_are_those_of_the_metrics(tmp_path: Path) -> None:
    labels, probabilities = labelled_file(tmp_path / "labelled", 500)
    with (tmp_path / "labelled").open("rb") as file:
        evaluation = evaluate(file, 500)
    predicted = probabilities.argmax(axis=1)
    assert evaluation.micro_f1 == micro_f1(labels, predicted)
    assert evaluation.auprc == auprc(labels, probabilities)
    assert evaluation.accuracy == pytest.approx((labels == predicted).mean())
    assert evaluation.confusion.sum() == 500
    assert evaluation.confusion[labels[0], predicted[0]] >= 1
    scores = probabilities.max(axis=1)
    for index in range(10):
        inside = (scores >= index / 10) & (scores < (index + 1) / 10)
        assert evaluation.reliability.rows[index] == inside.sum()
        assert evaluation.reliability.scores[index] == pytest.approx(scores[inside].sum())
        assert evaluation.reliability.right[index] == (labels == predicted)[inside].sum()


def test_the_evaluation_of_ten_million_rows_needs_some_40_mb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bytes a row, and pieces of a fixed size. Measured over fewer rows, in smaller pieces."""
    for module in (scoring.evaluation, models.metrics):
        monkeypatch.setattr(module, "PIECE", 500)
    peaks = []
    for rows in (20_000, 60_000):
        with (tmp_path / "labelled").open("w+b") as file:
            file.truncate(rows * COLUMNS * STORED.itemsize)
            tracemalloc.start()
            evaluate(file, rows)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] - peaks[0] == pytest.approx(4 * 40_000, abs=10_000)


def test_a_score_of_one_falls_into_the_last_bin(tmp_path: Path) -> None:
    np.array([[3.0, *np.eye(30)[3]]], dtype=STORED).tofile(tmp_path / "labelled")
    with (tmp_path / "labelled").open("rb") as file:
        evaluation = evaluate(file, 1)
    assert evaluation.reliability.rows.tolist() == [0] * 9 + [1]
    assert (evaluation.accuracy, evaluation.reliability.calibration_error, evaluation.micro_f1) == (1, 0, 100)


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    labelled_file(tmp_path / "labelled", 200)
    with (tmp_path / "labelled").open("rb") as file:
        evaluation = evaluate(file, 200)
    text = render("<script>alert(1)</script> & rows", {"bundle": "<b>"}, evaluation)
    page = Page(text)
    assert "script" not in page.tags
    assert page.links == []
    assert not re.search(r"@import|url\(", text)
    assert page.tags.count("svg") == 1
    for relation in RELATIONS:
        assert f"<td>{relation}</td>" in text
    for figure in (f"{evaluation.micro_f1:.2f}", f"{evaluation.auprc:.2f}"):
        assert f"<td>{figure}</td>" in text
    shown = np.count_nonzero(evaluation.confusion + np.eye(30))
    assert len(re.findall(r"title=\"[a-z_:/]+ as ", text)) == shown
    assert text.count('class="right"') == 30, "the diagonal"
    bins = evaluation.reliability
    for index, rows in enumerate(bins.rows):
        line = f"<td>{index / 10:g} to {(index + 1) / 10:g}</td><td>{rows}</td><td>{bins.right[index]}</td>"
        assert line in text


@pytest.mark.usefixtures("engine")
def test_a_run_on_labelled_rows_leaves_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_long_rows(30)
    half = [{**row, "label": 100} if number % 2 else row for number, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(half))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.csv")]) == 0
    summary = summary_of(capsys)
    assert (summary["labelled"], summary["report"]) == (15, str(tmp_path / "out.csv.report.html"))
    text = (tmp_path / "out.csv.report.html").read_text(encoding="utf-8")
    Page(text)
    assert f"<td>{summary['micro_f1']:.2f}</td>" in text
    bundle = Path(os.environ["KORE_BUNDLE"])
    for fact in (
        str(tmp_path / "rows.jsonl"),
        hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest(),
    ):
        assert f"<td>{fact}</td>" in text
    assert re.search(r"<td>date</td><td>20\d\d-\d\d-\d\d ", text)


@pytest.mark.usefixtures("engine")
def test_the_report_has_the_most_confident_mistakes_with_their_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "label": "per:religion"} for row in make_long_rows(60)]
    rows[7]["sentence"] = f"<b>&{'가' * 400} {rows[7]['sentence']}"
    for entity in ("subject_entity", "object_entity"):
        rows[7][entity] = {"word": rows[7][entity]["word"]}
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(rows))
    options = ["--top-k", "30", "--cascade-caution", "1", "--window", "16"]
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), *options]) == 0
    assert summary_of(capsys)["labelled"] == 60
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    wrong = [number for number, answer in enumerate(answers) if answer["relation"] != "per:religion"]
    expected = sorted(wrong, key=lambda number: (-answers[number]["score"], number))[:KEPT]
    text = (tmp_path / "out.jsonl.report.html").read_text(encoding="utf-8")
    Page(text)
    table = text[text.index('class="sentence"') :]
    assert [int(row) - 1 for row in re.findall(r"<tr><td>(\d+)</td><td>[01]\.", table)] == expected
    shown = re.findall(r"<td>([^<]*<mark.*?)</td>", table)
    for number, sentence in zip(expected, shown, strict=True):
        for entity in ("subject_entity", "object_entity"):
            assert f">{escape(str(rows[number][entity]['word']))}</mark>" in sentence


def test_a_sentence_is_shown_with_its_entities_and_nothing_of_it_is_run() -> None:
    row = {
        "sentence": f"<b>{'가' * 400} 가람은 {'나' * 400} A&B를 세웠다.",
        "subject_entity": {"word": "A&B"},
        "object_entity": {"word": "가람"},
    }
    shown = marked(Example.from_row(row))
    assert '<mark class="object">가람</mark>은' in shown
    assert "<mark>A&amp;B</mark>를 세웠다." in shown
    assert "<b>" not in shown
    assert len(shown) < 800
    assert marked(Example.from_row({**row, "sentence": "<i>가람은 A&B를 세웠다."})) == (
        '&lt;i&gt;<mark class="object">가람</mark>은 <mark>A&amp;B</mark>를 세웠다.'
    )


def line(relation: str, guid: str | None = None, **probabilities: float) -> dict[str, Any]:
    named = {name.replace("__", ":"): value for name, value in probabilities.items()}
    return ({"guid": guid} if guid else {}) | {
        "relation": relation,
        "score": 0.5,
        "probabilities": named,
        "members": 1,
    }


def written(path: Path, *lines: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return str(path)


def test_differences_are_counted_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = written(
        tmp_path / "a.jsonl",
        line("per:title", "x", per__title=0.9, no_relation=0.1),
        line("no_relation", "y", no_relation=0.8),
        line("per:title", "z", per__title=0.6),
    )
    b = written(
        tmp_path / "b.jsonl",
        line("per:title", "x", per__title=0.8, per__spouse=0.2),
        line("per:spouse", "y", per__spouse=0.7),
        line("per:title", None, per__title=0.9),
    )
    assert compare.main([a, b]) == 0
    differing, last = capsys.readouterr().out.splitlines()
    assert differing == "2\ty\tno_relation\tper:spouse"
    summary = json.loads(last)
    assert (summary["rows"], summary["same_label"], summary["rows_with_probabilities"]) == (3, 2, 2)
    assert summary["label_agreement"] == pytest.approx(2 / 3)
    assert summary["largest_difference"] == pytest.approx(0.3)
    assert summary["mean_difference"] == pytest.approx(0.2)
    assert compare.main([a, b, "--strict"]) == 1
    assert compare.main([a, a, "--strict"]) == 0


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([line("per:title", "x")], [line("per:title", "y")], "row 1 is x in A and y in B"),
        ([line("per:title", "x")], [line("per:title", "x")] * 2, "A ends after 1 rows"),
        ([line("per:nothing", "x")], [line("per:title", "x")], "one of the 30 relations is required"),
        ([{"relation": "per:title"}], [line("per:title", "x")], "probabilities are required"),
        ([{"relation": []}], [line("per:title", "x")], "one of the 30 relations"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    a: list[dict[str, Any]],
    b: list[dict[str, Any]],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare.main([written(tmp_path / "a.jsonl", *a), written(tmp_path / "b.jsonl", *b)]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"{nonsense",
        b"\xff\xfe",
        b"a,b\n1,2\n",
        b"id,pred_label,probs\n1,per:title,[1]\n",
        b"PAR1x",
        b"\x1f\x8b",
    ],
)
def test_what_is_no_output_is_refused(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(data)
    b = written(tmp_path / "b.jsonl", line("per:title"))
    assert compare.main([str(tmp_path / "a"), b]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert compare.main([str(tmp_path / "none"), b]) == 2


@pytest.mark.usefixtures("engine")
def test_submissions_in_either_order_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_bytes(as_csv(make_long_rows(20)))
    outputs = [str(tmp_path / name) for name in ("submission.csv", "out.jsonl")]
    for order in ("klue", "competition"):
        for output in outputs:
            assert main([str(tmp_path / "rows.csv"), output, "--top-k", "30", "--label-order", order]) == 0
        assert compare.main([*outputs, "--label-order", order]) == 0
        assert summary_of(capsys)["largest_difference"] < 1e-12
    assert RELATION_IDS["no_relation"] == 0
