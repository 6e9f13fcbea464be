"""Votes over files of predictions, as a competitor makes them: against means by hand, in both forms."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scoring_files import lines_of, matrix, refusal, summary_of

from loadtest.sentences import Row
from models.labels import COMPETITION_RELATIONS, RELATIONS
from models.metrics import klue_metrics
from scoring.vote import main

ROWS = 24
Made = Callable[[str, NDArray[np.float64]], Path]


@pytest.fixture
def probabilities() -> NDArray[np.float64]:
    """Of three files, shape (3, rows, 30)."""
    return np.random.default_rng(1).dirichlet(np.full(30, 0.2), (3, ROWS))


@pytest.fixture
def predictions(tmp_path: Path, rows: list[Row]) -> Made:
    """Writes JSONL as python -m scoring --top-k 30 does."""

    def write(name: str, table: NDArray[np.float64]) -> Path:
        lines = [
            {
                "guid": row["guid"],
                "relation": RELATIONS[values.argmax()],
                "score": float(values.max()),
                "probabilities": dict(zip(RELATIONS, values.tolist(), strict=True)),
                "members": 2,
                "truncated": False,
            }
            for row, values in zip(rows, table, strict=False)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def submissions(tmp_path: Path) -> Made:
    def write(name: str, table: NDArray[np.float64]) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "pred_label", "probs"])
            for number, values in enumerate(table):
                of = dict(zip(RELATIONS, values.tolist(), strict=True))
                writer.writerow([number, max(of, key=of.__getitem__), [of[r] for r in COMPETITION_RELATIONS]])
        return path

    return write


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_a_soft_vote_is_the_mean_by_hand(
    weights: list[float] | None,
    probabilities: NDArray[np.float64],
    predictions: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [str(predictions(f"{n}.jsonl", probabilities[n])) for n in range(2)]
    flags = ["--weights", ",".join(map(str, weights))] if weights else []
    assert main([*files, "--output", str(tmp_path / "vote.jsonl"), *flags]) == 0
    a, b = weights or [1.0, 1.0]
    by_hand = (a * probabilities[0] + b * probabilities[1]) / (a + b)
    lines = lines_of(tmp_path / "vote.jsonl")
    assert (matrix(lines) == by_hand).all(), "exactly"
    for line, row in zip(lines, by_hand, strict=True):
        assert line["relation"] == RELATIONS[row.argmax()] == next(iter(line["probabilities"]))
        assert (line["score"], line["members"], line["truncated"]) == (row.max(), 4, False)
    assert [line["guid"] for line in lines] == [line["guid"] for line in lines_of(Path(files[0]))]
    assert summary_of(capsys)["weights"] == [a, b]


@pytest.mark.parametrize("order", ["competition", "klue"])
def test_submissions_become_a_submission(
    order: str, probabilities: NDArray[np.float64], submissions: Made, tmp_path: Path
) -> None:
    files = [str(submissions(f"{n}.csv", probabilities[n])) for n in range(3)]
    assert main([*files, "--output", str(tmp_path / "vote.csv"), "--label-order", order]) == 0
    with (tmp_path / "vote.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "pred_label", "probs"]
    assert [row[0] for row in rows] == [str(number) for number in range(ROWS)]
    names = COMPETITION_RELATIONS if order == "competition" else RELATIONS
    for (_, label, probs), row in zip(rows, probabilities.mean(axis=0), strict=True):
        read = json.loads(probs)
        assert label == names[int(np.argmax(read))]
        if order == "competition":
            by_name = dict(zip(names, read, strict=True))
            assert [by_name[relation] for relation in RELATIONS] == pytest.approx(row.tolist(), abs=1e-15)


def row_of(**shares: float) -> NDArray[np.float64]:
    """Probabilities by relation id ("r5"); what is left is spread over the others."""
    row = np.full(30, (1 - sum(shares.values())) / (30 - len(shares)))
    for name, share in shares.items():
        row[int(name[1:])] = share
    return row


def test_a_hard_vote_counts_relations_and_breaks_ties_by_the_mean(predictions: Made, tmp_path: Path) -> None:
    """Row 0: two files against one that is surer. Row 1: three relations, one vote each. Row 2: as row 1, and
    the means are equal too."""
    tables = [
        [row_of(r5=0.3), row_of(r7=0.5), row_of(r9=0.5)],
        [row_of(r5=0.3), row_of(r8=0.6), row_of(r3=0.5)],
        [row_of(r6=0.9), row_of(r9=0.4), row_of(r12=0.5)],
    ]
    files = [str(predictions(f"{n}.jsonl", np.array(table))) for n, table in enumerate(tables)]

    def voted(*flags: str) -> list[str]:
        assert main([*files, "--output", str(tmp_path / "vote.jsonl"), *flags]) == 0
        return [line["relation"] for line in lines_of(tmp_path / "vote.jsonl")]

    assert voted("--hard") == [RELATIONS[5], RELATIONS[8], RELATIONS[3]]
    assert voted()[:2] == [RELATIONS[6], RELATIONS[8]], "the mean decides a soft vote"
    assert voted("--hard", "--weights", "1,1,3")[:2] == [RELATIONS[6], RELATIONS[9]]
    assert voted("--hard", "--weights", "0.1,0.2,0.3")[0] == RELATIONS[6], "0.1 + 0.2 and 0.3 are a tie"
    (line, *_) = lines_of(tmp_path / "vote.jsonl")
    assert line["score"] == line["probabilities"][line["relation"]]


def labels_of(rows: list[Row]) -> NDArray[np.int64]:
    return np.array([RELATIONS.index(str(row["label"])) for row in rows])


def test_weights_are_fitted_and_each_figure_is_shown(
    rows: list[Row],
    rows_file: Path,
    predictions: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generator, labels = np.random.default_rng(3), labels_of(rows)
    noise = generator.dirichlet(np.full(30, 0.3), (2, len(rows)))
    good, bad = 0.5 * np.eye(30)[labels] + 0.5 * noise[0], noise[1]
    files = [str(predictions("good.jsonl", good)), str(predictions("bad.jsonl", bad))]
    assert main([*files, "--output", str(tmp_path / "vote.jsonl"), "--fit", str(rows_file)]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out.splitlines()[-1])
    assert sum(summary["weights"]) == pytest.approx(1)
    assert summary["weights"][0] > 0.9
    assert summary["files"] == [klue_metrics(labels, good), klue_metrics(labels, bad)]
    assert summary["equal_weights"] == klue_metrics(labels, (good + bad) / 2)
    voted = matrix(lines_of(tmp_path / "vote.jsonl"))
    assert summary["fitted"] == klue_metrics(labels, voted)
    assert summary["cross_fitted"].keys() == {"micro_f1", "auprc"}
    table = captured.err.splitlines()
    assert len(table) == 5
    assert all("micro-F1" in line and "AUPRC" in line for line in table)


def test_what_cannot_vote_gets_one_plain_line(
    rows: list[Row],
    rows_file: Path,
    probabilities: NDArray[np.float64],
    predictions: Made,
    submissions: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "vote.jsonl"
    a = predictions("a.jsonl", probabilities[0])
    shorter = predictions("shorter.jsonl", probabilities[0, :-1])
    lines: list[dict[str, Any]] = lines_of(a)
    swapped = tmp_path / "swapped.jsonl"
    swapped.write_text("".join(json.dumps(line) + "\n" for line in [lines[1], lines[0], *lines[2:]]))
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps(lines[0] | {"probabilities": {"no_relation": 1.0}}) + "\n")
    logits = predictions("logits.jsonl", probabilities[0] * 3)
    other = submissions("other.csv", probabilities[0])
    for arguments, said in [
        ([a, shorter], "23 rows"),
        ([a, swapped], f"row 1 is {lines[0]['guid']} in {a} and {lines[1]['guid']}"),
        ([a, few], "row 1 has 1 of the 30 probabilities; score again with --top-k 30"),
        ([a, logits], "sum to 1"),
        ([a, tmp_path / "missing.jsonl"], "missing.jsonl"),
        ([a, other], "different forms"),
        ([a, a, "--fit", rows_file], f"{rows_file} has {len(rows)} rows"),
        ([other, submissions("b.csv", probabilities[1])], "name one that ends in .csv"),
    ]:
        assert main([*map(str, arguments), "--output", str(output)]) == 2
        assert said in refusal(capsys)
    for arguments, said in [
        ([a], "two or more files"),
        ([a, a, "--weights", "1"], "1 given for 2 files"),
        ([a, a, "--weights", "1,x"], "positive numbers"),
        ([a, a, "--fit", rows_file, "--hard"], "soft vote"),
    ]:
        with pytest.raises(SystemExit):
            main([*map(str, arguments), "--output", str(output)])
        assert said in refusal(capsys)
    with pytest.raises(SystemExit):
        main([str(a), str(shorter), "--output", str(a)])
    assert "it would be overwritten" in refusal(capsys)
    assert not output.exists()
