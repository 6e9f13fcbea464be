"""What a run of scoring says of its file: the encoding, the order of labels, why nothing could be scored."""

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from scoring_files import Standard, as_csv, as_jsonl, lines_of, summary_of

from loadtest.sentences import make_rows
from models.labels import RELATIONS
from scoring.__main__ import main

pytestmark = pytest.mark.usefixtures("engine")

ROWS = make_rows()[:6]


@pytest.fixture
def scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The answers to the rows in plain JSON lines."""
    (tmp_path / "plain.jsonl").write_bytes(as_jsonl(ROWS))
    assert main([str(tmp_path / "plain.jsonl"), str(tmp_path / "plain.out.jsonl")]) == 0
    summary = summary_of(capsys)
    assert (summary["input_form"], summary["encoding"], summary["label_numbers"]) == ("jsonl", "utf-8", None)
    return lines_of(tmp_path / "plain.out.jsonl")


@pytest.mark.parametrize(
    ("name", "data", "flags", "encoding"),
    [
        ("excel.csv", as_csv(ROWS).decode().encode("cp949"), [], "cp949"),
        ("utf-16.tsv", as_csv(ROWS).decode().encode("utf-16"), [], "utf-16-le"),
        ("rows.jsonl", as_jsonl(ROWS).decode().encode("johab"), ["--encoding", "johab"], "johab"),
        ("forced.csv", as_csv(ROWS).decode().encode("cp949"), ["--encoding", "euc-kr"], "euc-kr"),
    ],
)
def test_the_summary_says_how_a_file_was_read(
    name: str,
    data: bytes,
    flags: list[str],
    encoding: str,
    scored: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(data)
    assert main([str(tmp_path / name), str(tmp_path / "out.jsonl"), *flags]) == 0
    assert summary_of(capsys)["encoding"] == encoding
    answers = lines_of(tmp_path / "out.jsonl")
    assert [line["relation"] for line in answers] == [line["relation"] for line in scored]
    assert [line["score"] for line in answers] == pytest.approx([line["score"] for line in scored], abs=1e-4)


def test_labels_by_number_are_scored_as_labels_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbered = [{**row, "label": RELATIONS.index(str(row["label"]))} for row in ROWS]
    for name, rows in {"names.jsonl": ROWS, "numbers.jsonl": numbered}.items():
        (tmp_path / name).write_bytes(as_jsonl(rows))
        assert main([str(tmp_path / name), str(tmp_path / f"{name}.out.jsonl")]) == 0
    names, numbers = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert numbers["micro_f1"] == names["micro_f1"]
    assert numbers["label_numbers"] == {"rows": len(ROWS), "order": "klue"}


def test_a_run_that_scores_nothing_fails_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b"bad"] * 3 + [
        json.dumps({"sentence": "가", "subject_entity": {"word": word}}).encode() for word in "나다"
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    for flags in ([], ["--window", "2"]):
        assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), *flags]) == 1
        captured = capsys.readouterr()
        assert json.loads(captured.out)["rejected"] == 5
        last = captured.err.splitlines()[-1]
        assert last.startswith("scoring: none of the 5 rows could be scored: 3 rows: not JSON: ")
        assert "2 rows: object_entity: this field is required" in last
    assert len(lines_of(tmp_path / "out.jsonl.rejects.jsonl")) == 5


def test_a_stream_needs_no_writable_folder(
    scored: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*_: object, **__: object) -> io.BytesIO:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    output = Standard()
    monkeypatch.setattr(sys, "stdin", Standard(as_jsonl(ROWS)))
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["-", "-"]) == 0
    assert [json.loads(line) for line in output.buffer.getvalue().splitlines()] == scored
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["labelled"] == len(ROWS)


def test_a_saved_dataset_is_scored_and_resumed(
    scored: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pyarrow, ipc = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.ipc")
    folder = tmp_path / "saved"
    folder.mkdir()
    table = pyarrow.Table.from_pylist(ROWS)
    with ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    assert main([str(folder), str(tmp_path / "out.jsonl"), "--resume"]) == 0
    summary = summary_of(capsys)
    assert (summary["input_form"], summary["encoding"]) == ("arrow", None)
    assert lines_of(tmp_path / "out.jsonl") == scored


def test_a_folder_of_parts_is_scored_and_resumed(
    scored: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for place, rows in enumerate((ROWS[:2], ROWS[2:])):
        (folder / f"part-{place}.json").write_bytes(as_jsonl(rows))
    assert main([str(folder), str(tmp_path / "out.jsonl"), "--resume"]) == 0
    assert summary_of(capsys)["input_form"] == "jsonl"
    assert lines_of(tmp_path / "out.jsonl") == scored
    assert main([str(folder), str(folder / "out.jsonl")]) == 2
    assert "name another folder" in capsys.readouterr().err
