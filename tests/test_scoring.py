"""A file is scored as a request is: the same answers in every form of input, in its order, in every form of
output."""

import csv
import errno
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from numpy.typing import NDArray
from scoring_files import (
    INPUTS,
    Standard,
    as_csv,
    as_jsonl,
    as_parquet,
    lines_of,
    matrix,
    refusal,
    summary_of,
    zstd,
)

from engine.settings import EngineSettings
from engine.tuning import TunedEnsemble
from loadtest.sentences import Row, make_long_rows, make_rows
from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.metrics import auprc, micro_f1
from scoring.__main__ import main
from scoring.options import parse
from scoring.progress import progress_bar


@pytest.fixture(scope="session")
def long_rows() -> list[Row]:
    return make_long_rows(50)


@pytest.fixture(scope="session")
def expected(tuned: TunedEnsemble, long_rows: list[Row]) -> NDArray[np.float64]:
    predictions = tuned.lanes.predict([Example.from_row(row) for row in long_rows])
    return np.stack([prediction.probabilities for prediction in predictions])


@pytest.mark.parametrize("name", INPUTS)
def test_every_form_of_input_gives_the_ensembles_answers_in_order(
    name: str,
    engine: None,
    long_rows: list[Row],
    expected: NDArray[np.float64],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(INPUTS[name](long_rows))
    output = tmp_path / "out.jsonl"
    assert main([str(tmp_path / name), str(output), "--top-k", "30", "--window", "16"]) == 0
    lines, summary = lines_of(output), summary_of(capsys)
    assert np.abs(matrix(lines) - expected).max() < 1e-4
    assert [line["relation"] for line in lines] == [RELATIONS[index] for index in expected.argmax(axis=1)]
    if "csv" in name:
        assert [line["id"] for line in lines] == [str(number) for number in range(50)]
    else:
        assert [line["guid"] for line in lines] == [row["guid"] for row in long_rows]
    labels = np.array([RELATION_IDS[str(row["label"])] for row in long_rows])
    assert (summary["rows"], summary["scored"], summary["rejected"], summary["labelled"]) == (50, 50, 0, 50)
    assert summary["micro_f1"] == pytest.approx(micro_f1(labels, expected.argmax(axis=1)))
    assert summary["auprc"] == pytest.approx(auprc(labels, expected))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [name, "out.jsonl", "out.jsonl.report.html"]
    )


def test_decomposed_rows_get_the_answers_of_composed_rows(engine: None, tmp_path: Path) -> None:
    def decomposed(row: Row, indices: bool) -> Row:
        sent, changed = normalize("NFD", str(row["sentence"])), {}
        for field in ("subject_entity", "object_entity"):
            entity: Any = row[field]
            start = len(normalize("NFD", str(row["sentence"])[: entity["start_idx"]]))
            end = start + len(normalize("NFD", entity["word"])) - 1
            span = {"start_idx": start, "end_idx": end, "word": normalize("NFD", entity["word"])}
            changed[field] = (
                {**entity, **span} if indices else {"word": entity["word"], "type": entity["type"]}
            )
        return {**row, "sentence": sent, **changed}

    once = [
        row
        for row in make_rows()
        if all(
            str(row["sentence"]).count(row[key]["word"]) == 1 for key in ("subject_entity", "object_entity")
        )
    ][:20]
    for name, rows in {
        "composed": once,
        "decomposed": [decomposed(row, indices=True) for row in once],
        "words": [decomposed(row, indices=False) for row in once],
    }.items():
        (tmp_path / f"{name}.jsonl").write_bytes(as_jsonl(rows))
        assert main([str(tmp_path / f"{name}.jsonl"), str(tmp_path / f"{name}.out.jsonl")]) == 0
    composed, *others = (
        lines_of(tmp_path / f"{name}.out.jsonl") for name in ("composed", "decomposed", "words")
    )
    for other in others:
        assert [line["relation"] for line in other] == [line["relation"] for line in composed]
        assert [line["score"] for line in other] == pytest.approx(
            [line["score"] for line in composed], abs=1e-4
        )


def test_a_line_has_the_fields_of_https_prediction(
    engine: None, tmp_path: Path, tuned: TunedEnsemble
) -> None:
    row = make_rows()[0]
    nameless = {key: value for key, value in row.items() if key != "guid"}
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl([row, nameless]))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), "--top-k", "3"]) == 0
    named, unnamed = lines_of(tmp_path / "out.jsonl")
    (prediction,) = tuned.lanes.predict([Example.from_row(row)])
    assert list(named) == ["guid", "relation", "score", "probabilities", "members", "truncated"]
    assert list(unnamed) == ["relation", "score", "probabilities", "members", "truncated"]
    assert named == {"guid": row["guid"], **unnamed}
    assert list(named["probabilities"]) == list(prediction.top(3))
    assert next(iter(named["probabilities"])) == named["relation"]


@pytest.mark.parametrize("form", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_standard_input_and_output(
    form: str,
    engine: None,
    long_rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Standard()
    monkeypatch.setattr(sys, "stdin", Standard(INPUTS[form](long_rows)))
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["-", "-", "--window", "9"]) == 0
    lines = [json.loads(line) for line in output.buffer.getvalue().splitlines()]
    assert len(lines) == 50
    summary = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (summary["output"], summary["scored"], summary["labelled"]) == ("-", 50, 50)


@pytest.mark.parametrize("form", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_a_pipe_with_a_name_is_read_once_and_whole(
    form: str, engine: None, long_rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[INPUTS[form](long_rows * 20)])
    writer.start()
    assert main([str(pipe), str(tmp_path / "out.jsonl")]) == 0
    writer.join()
    assert [line.get("guid", "") for line in lines_of(tmp_path / "out.jsonl")] == [
        "" if "csv" in form else row["guid"] for row in long_rows * 20
    ]
    assert summary_of(capsys)["rejected"] == 0


def test_parquet_from_a_pipe_is_refused(
    engine: None, long_rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # which a pipe holds whether or not it is read
    writer = threading.Thread(target=pipe.write_bytes, args=[as_parquet(long_rows)[:1000]])
    writer.start()
    assert main([str(pipe), str(tmp_path / "out.jsonl")]) == 2
    writer.join()
    assert "no regular file" in refusal(capsys)


def test_what_an_output_links_to_is_written_and_the_link_stays(
    engine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "rows.jsonl").write_bytes(b"bad\n" + as_jsonl(make_rows()[:3]))
    link, target = tmp_path / "latest.jsonl", tmp_path / "data" / "real.jsonl"
    link.symlink_to(Path("data") / "real.jsonl")
    for _ in ("the target is made", "the target is there already"):
        assert main([str(tmp_path / "rows.jsonl"), str(link)]) == 0
        assert link.is_symlink()
        assert len(lines_of(target)) == 3
        assert summary_of(capsys)["rejects"] == f"{target}.rejects.jsonl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "latest.jsonl", "rows.jsonl"]
    assert sorted(path.name for path in target.parent.iterdir()) == [
        target.name + end for end in ("", ".rejects.jsonl", ".report.html")
    ]


def test_a_name_that_is_not_utf8(engine: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"bad\n" + as_jsonl(make_rows()[:3]))
    output = os.fsdecode(bytes(tmp_path) + b"/\xb0\xa1.jsonl")
    assert main([str(tmp_path / "rows.jsonl"), output]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["output"], summary["scored"]) == (output, 3)
    assert len(lines_of(Path(output))) == 3
    assert Path(f"{output}.report.html").exists()


def test_names_with_any_line_break_are_whole_cells(engine: None, tmp_path: Path) -> None:
    names = ["a\rb", "\r", "c\r\nd", "e\nf", 'g,"h"', "i"]
    rows = [{**row, "guid": name} for row, name in zip(make_rows(), names, strict=False)]
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(rows))
    for output, column in (("out.csv", "guid"), ("submission.csv", "id")):
        assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / output)]) == 0
        with (tmp_path / output).open(encoding="utf-8", newline="") as file:
            assert [row[column] for row in csv.DictReader(file, strict=True)] == names


@pytest.mark.parametrize(
    "name", ["out.jsonl.gz", "out.jsonl.zst", "out.csv", "out.csv.gz", "submission.csv", "out.parquet"]
)
def test_every_form_of_output_holds_the_same(
    name: str, engine: None, long_rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    elif "zst" in name:
        zstd(b"")
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(long_rows))
    for output in ("out.jsonl", name):
        assert (
            main([str(tmp_path / "rows.jsonl"), str(tmp_path / output), "--top-k", "30", "--window", "16"])
            == 0
        )
    from scoring.compare import main as compare

    assert compare([str(tmp_path / "out.jsonl"), str(tmp_path / name), "--strict"]) == 0
    compared = summary_of(capsys)
    assert (compared["rows"], compared["same_label"], compared["rows_with_probabilities"]) == (50, 50, 50)
    assert compared["largest_difference"] < 1e-12


def test_rows_of_no_file_leave_an_output_without_rows(
    engine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in {"none.jsonl": b"\n \n", "none.json": b" [ ]\n", "none.csv": as_csv([])}.items():
        (tmp_path / name).write_bytes(data)
        assert main([str(tmp_path / name), str(tmp_path / "out.csv")]) == 0
        assert (tmp_path / "out.csv").read_text() == (
            "guid,id,relation,score,probabilities,members,truncated\n"
        )
        assert summary_of(capsys)["rows"] == 0


def test_a_label_that_is_none_is_counted_and_the_row_scored(
    engine: None, long_rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels: list[object] = [100, None, "", "100", 29, "per:title", "spouse", 30, ["x"]]
    rows = [{**row, "label": label} for row, label in zip(long_rows, labels, strict=False)]
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(rows))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    summary = summary_of(capsys)
    assert (summary["scored"], summary["labelled"], summary["strange_labels"]) == (9, 2, 3)
    assert summary["label_numbers"] == {"rows": 1, "order": "klue"}


def test_it_loads_as_serving_does(
    tiny_bundle: Path, long_rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(long_rows))
    arguments = [
        str(tmp_path / "rows.jsonl"),
        str(tmp_path / "out.jsonl"),
        "--bundle",
        str(tiny_bundle),
        "--tuning-s",
        "0",
    ]
    assert main(arguments) == 0
    assert summary_of(capsys)["scored"] == 50
    assert main([*arguments, "--device", "cuda"]) == 2
    assert "has no graphs for cuda" in refusal(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.jsonl.report.html",
        "rows.jsonl",
    ]


def furnish(folder: Path) -> None:
    """A folder with one good input and much that is in its way."""
    (folder / "rows.jsonl").write_bytes(as_jsonl(make_rows()[:3]))
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to("rows.jsonl")
    (folder / "blocked.jsonl.rejects.jsonl").mkdir()
    (folder / "x.rejects.jsonl").hardlink_to(folder / "rows.jsonl")
    (folder / "no-header.csv").write_text("1,2,3\n")
    (folder / "cp949.csv").write_bytes("번호,문장\n1,강하늘은 이름난 무신이다.\n".encode("cp949"))
    (folder / "no-array.json").write_text("3")
    (folder / "no.parquet").write_text("PAR1 but no more")
    os.mkfifo(folder / "pipe.jsonl")


REFUSED = {
    "missing.jsonl out.jsonl": "No such file",
    "folder.jsonl out.jsonl": "folder",
    "rows.jsonl rows.jsonl": "this is the input",
    "rows.jsonl link.jsonl": "this is the input",
    "rows.jsonl y": "give --to",
    "rows.jsonl x --to jsonl": "x.rejects.jsonl: this is the input",
    "rows.jsonl folder.jsonl": "folder",
    "rows.jsonl blocked.jsonl": "not a regular file",
    "rows.jsonl pipe.jsonl": "not a regular file",
    "rows.jsonl nowhere/out.jsonl": "no folder",
    "rows.jsonl rows.jsonl/out.jsonl": "no folder",
    "rows.jsonl out.txt": "give --to",
    "rows.jsonl out.parquet.gz": "Parquet is written to a plain file",
    "rows.jsonl - --to parquet": "Parquet is written to a plain file",
    "rows.jsonl - --resume": "--resume needs files",
    "pipe.jsonl out.jsonl --resume": "pipe.jsonl: --resume needs a regular file",
    "missing.jsonl out.jsonl --resume": "No such file",
    "no-header.csv out.jsonl": "names no column sentence",
    "cp949.csv out.jsonl": "the first row is not the header of a competition CSV: it names no column",
    "cp949.csv out.jsonl --encoding utf-8": "this is not utf-8 text",
    "no-array.json out.jsonl": "neither a JSON array nor JSON lines",
    "no.parquet out.jsonl": "Parquet",
    "rows.jsonl out.jsonl --from parquet": "Parquet",
    "rows.jsonl out.jsonl --bundle folder.jsonl": "bundle",
    f"rows.jsonl {'x' * 245}.jsonl": "File name too long",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_users_error_is_one_plain_line(
    arguments: str,
    engine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    if "arquet" in REFUSED[arguments]:
        pytest.importorskip("pyarrow")
    assert main(arguments.split()) == 2
    assert REFUSED[arguments] in refusal(capsys)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    ["--top-k 0", "--top-k 31", "--top-k one", "--window 0", "--label-order x", "--to xml", "--encoding x"],
)
def test_a_flag_that_is_wrong_is_one_plain_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["rows.jsonl", "out.jsonl", *arguments.split()])
    assert refusal(capsys).startswith("scoring: argument --")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl.zst"])
def test_a_missing_library_is_named(
    name: str,
    engine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("models.files.sources.import_module", missing)
    monkeypatch.setattr("models.files.tables.import_module", missing)
    (tmp_path / name).write_bytes(b"PAR1" if "parquet" in name else b"\x28\xb5\x2f\xfd\0")
    assert main([str(tmp_path / name), str(tmp_path / "out.jsonl")]) == 2
    assert "pip install '.[scoring]'" in refusal(capsys)
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(make_rows()[:3]))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / name)]) == 2
    assert "pip install '.[scoring]'" in refusal(capsys)


@pytest.mark.parametrize(
    ("variables", "arguments", "engine_settings"),
    [
        ({}, [], {}),
        ({"KORE_DEVICE": "cpu", "KORE_TUNING_S": "3"}, [], {"device": "cpu", "tuning_s": 3}),
        ({"KORE_DEVICE": "cuda"}, ["--device", "cpu"], {"device": "cpu"}),
        ({"KORE_CASCADE_CAUTION": "1"}, ["--lanes", "2"], {"cascade_caution": 1, "lanes": 2}),
        ({}, ["--bundle", "there", "--token-budget", "512"], {"bundle": Path("there"), "token_budget": 512}),
    ],
)
def test_flags_and_variables_set_the_engine_by_one_rule(
    variables: dict[str, str],
    arguments: list[str],
    engine_settings: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = parse(["rows.jsonl", "out.jsonl", *arguments], "Score.")
    assert options.engine == EngineSettings(**engine_settings, all_cores_for_one=False)


@pytest.mark.parametrize(
    ("variables", "arguments", "where"),
    [
        ({"KORE_DEVICE": "tpu"}, [], "KORE_DEVICE"),
        ({"KORE_TUNING_S": "-1"}, ["--device", "cpu"], "KORE_TUNING_S"),
        ({}, ["--cascade-caution", "2"], "--cascade-caution"),
        ({"KORE_LANES": "2"}, ["--lanes", "none"], "--lanes"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    variables: dict[str, str],
    arguments: list[str],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        parse(["rows.jsonl", "out.jsonl", *arguments], "Score.")
    assert refusal(capsys).startswith(f"scoring: argument {where}: ")


def test_the_bar_tells_rows_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(done=1000) as progress:
        progress.expect(2000, 0.25)
        progress.advance(1000)
    last = capsys.readouterr().err
    assert last.startswith("100 % 2000 rows, ")
    assert last.endswith(" left\n")


def test_after_an_error_there_is_no_bar_in_front_of_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress_bar(done=0) as progress:
            progress.expect(5, None)
            progress.advance(5)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capsys.readouterr().err == ""


def test_a_closed_stderr_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Closed())
    with progress_bar(done=0) as progress:
        progress.advance(5)
