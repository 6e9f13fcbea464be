"""Pseudo-labels: what the labeller is sure of becomes training rows, and nothing of the evaluation does."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.sentences import Row
from models.bundle import Bundle
from models.ensemble import Ensemble
from models.labels import RELATIONS
from models.rows import read_examples, read_labelled
from training.ensemble.pseudo import surest
from training.ensemble.teachers import teach
from training.pseudo import main


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unlabelled(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows without labels."""
    bare = [{key: value for key, value in row.items() if key != "label"} for row in rows[:60]]
    return write(tmp_path_factory.mktemp("pseudo") / "unlabelled.jsonl", bare)


@pytest.fixture(scope="module")
def evaluation(rows: list[Row], unlabelled: Path) -> Path:
    """Other entities in two of the sentences, one decomposed, the other with space around it."""
    first, second = (
        {**row, "subject_entity": row["object_entity"], "object_entity": row["subject_entity"]}
        for row in rows[:2]
    )
    first["sentence"] = unicodedata.normalize("NFD", str(first["sentence"]))
    for field in ("subject_entity", "object_entity"):
        first[field] = {"word": first[field]["word"]}
        second[field] = {"word": second[field]["word"]}
    second["sentence"] = f"  {second['sentence']} "
    return write(unlabelled.with_name("evaluation.jsonl"), [first, second])


def test_a_bundle_labels_the_rows_that_it_is_sure_of(
    tiny_bundle: Path,
    unlabelled: Path,
    evaluation: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ensemble = Ensemble.load(Bundle.open(tiny_bundle))
    examples = read_examples(unlabelled)
    answers = [ensemble.run([ensemble.encode(example)], every_member=True)[0] for example in examples]
    threshold = float(np.median([answer.score for answer in answers[2:]]))
    out = tmp_path / "out.jsonl"
    command = [str(unlabelled), str(out), "--by", str(tiny_bundle), "--evaluation", str(evaluation)]
    assert main([*command, "--threshold", str(threshold)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == json.loads(Path(f"{out}.record.json").read_bytes())
    sure = [
        (example, answer.label_id)
        for example, answer in zip(examples[2:], answers[2:], strict=True)
        if answer.score > threshold + 1e-4
    ]
    written = [(row.example, row.label_id) for row in read_labelled(out)]
    assert [row for row in written if row in sure] == sure
    assert len(written) - len(sure) <= 2, "those at the threshold"
    in_evaluation = record["refused"]["sentence_in_evaluation"]
    assert in_evaluation == sum(
        example.sentence in {examples[0].sentence, examples[1].sentence} for example in examples
    )
    assert record["rows"] == 60 == record["written"] + sum(record["refused"].values())
    assert sum(record["by_label"].values()) == record["written"]


def test_members_vote_and_the_surest_share_of_a_label_is_kept(
    checkpoints: list[Path], unlabelled: Path, evaluation: Path, tmp_path: Path
) -> None:
    examples = read_examples(unlabelled)
    votes = teach(checkpoints, examples)
    taken = {example.sentence for example in examples[:2]}
    left = [index for index, example in enumerate(examples) if example.sentence not in taken]
    of_label = [index for index in left if votes[index].argmax() == votes[left[0]].argmax()]
    relation = RELATIONS[int(votes[left[0]].argmax())]
    out = tmp_path / "out.jsonl"
    command = [str(unlabelled), str(out), "--by", *map(str, checkpoints), "--evaluation", str(evaluation)]
    assert main([*command, "--threshold", "0.01", "--share", f"{relation}=0.5"]) == 0
    half = sorted(of_label, key=lambda index: -votes[index].max())[: -(-len(of_label) // 2)]
    expected = [index for index in left if index not in of_label or index in half]
    assert [row.example for row in read_labelled(out)] == [examples[index] for index in expected]


def test_the_surest_by_hand() -> None:
    labels, scores = np.array([3, 3, 3, 5, 3]), np.array([0.5, 0.9, 0.7, 0.1, 0.7])
    assert surest(labels, scores, {}).tolist() == [True] * 5
    assert surest(labels, scores, {RELATIONS[3]: 0.5}).tolist() == [False, True, True, True, False]
    assert surest(labels, scores, {RELATIONS[5]: 0.1}).tolist() == [True] * 5, "at least one"


def test_a_row_with_a_label_keeps_it(
    tiny_bundle: Path, rows: list[Row], evaluation: Path, tmp_path: Path
) -> None:
    source, out = write(tmp_path / "in.jsonl", rows[2:4]), tmp_path / "out.jsonl"
    command = [str(source), str(out), "--by", str(tiny_bundle), "--evaluation", str(evaluation)]
    assert main(command) == 0
    assert out.read_bytes() == b""
    assert json.loads(Path(f"{out}.record.json").read_bytes())["refused"] == {"has_a_label": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--by": "nowhere"}, "nowhere"),
        ({"--evaluation": "nothing.jsonl"}, "nothing.jsonl"),
        ({"--threshold": "1.5"}, "--threshold"),
        ({"--share": "per:nothing=0.1"}, "per:nothing is not one of the 30 relations"),
        ({"--share": "no_relation=0"}, "--share"),
    ],
)
def test_what_cannot_be_done_gets_one_plain_line(
    changes: dict[str, str],
    message: str,
    tiny_bundle: Path,
    unlabelled: Path,
    evaluation: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"--by": str(tiny_bundle), "--evaluation": str(evaluation)} | changes
    command = [part for option in options.items() for part in option]
    try:
        status = main([str(unlabelled), str(tmp_path / "out.jsonl"), *command])
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("training.pseudo: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_an_input_is_never_overwritten(
    tiny_bundle: Path, unlabelled: Path, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluation.read_bytes()
    command = [str(unlabelled), str(evaluation), "--by", str(tiny_bundle), "--evaluation", str(evaluation)]
    assert main(command) == 2
    assert "is one of the inputs" in capsys.readouterr().err
    assert evaluation.read_bytes() == before
