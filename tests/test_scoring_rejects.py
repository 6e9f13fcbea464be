"""Nothing is lost: what cannot be scored is listed with its place and the reason, and the rest is scored."""

import gzip
import json
import sys
from pathlib import Path

import pytest
from scoring_files import Standard, as_csv, as_jsonl, lines_of, summary_of, zstd

from loadtest.sentences import make_long_rows, make_rows
from scoring.__main__ import main

pytestmark = pytest.mark.usefixtures("engine")

GOOD = make_rows()[0]
FAR_APART = {
    "sentence": "가" + " 나" * 900 + "다",
    "subject_entity": {"word": "가"},
    "object_entity": {"word": "다"},
}

BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{'single': 'quotes'}", "not JSON: Expecting property name"),
    "cut off": (b'{"sentence": "', "not JSON: Unterminated string"),
    "no object": (b"[1, 2]", "a row is a JSON object"),
    "not UTF-8": (as_jsonl([GOOD]).strip().decode().encode("cp949"), "not text in the file's encoding"),
    "no number": (b'{"sentence": NaN}', "sentence: a string is required"),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "digits": (b"1" * 10_000, "digits"),
    "no sentence": (b'{"guid": "g"}', "sentence: this field is required"),
    "lone surrogate": (b'{"guid": "\\ud800", "sentence": "x"}', "guid: a string of Unicode text"),
    "guid": (as_jsonl([{**GOOD, "guid": {"a": 1}}]).strip(), "guid: a string"),
    "long guid": (as_jsonl([{**GOOD, "guid": "x" * 1001}]).strip(), "of at most 1000 characters"),
    "type": (as_jsonl([{**GOOD, "subject_entity": {"word": "x", "type": "DOG"}}]).strip(), "one of PER"),
    "far apart": (as_jsonl([FAR_APART]).strip(), "too far apart"),
}  # fmt: skip


def test_bad_rows_are_listed_and_good_ones_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = as_jsonl([GOOD]).strip()
    lines = [line for bad, _ in BAD.values() for line in (good, bad, b"")]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), "--window", "5"]) == 0
    assert len(lines_of(tmp_path / "out.jsonl")) == len(BAD)
    rejects = lines_of(tmp_path / "out.jsonl.rejects.jsonl")
    assert [reject["line"] for reject in rejects] == [3 * number + 2 for number in range(len(BAD))]
    assert [reject["row"] for reject in rejects] == [2 * number + 2 for number in range(len(BAD))]
    for reject, (_, reason) in zip(rejects, BAD.values(), strict=True):
        assert reason in reject["reason"]
    assert {reject["guid"] for reject in rejects if "guid" in reject} == {"g", GOOD["guid"]}
    summary = summary_of(capsys)
    assert (summary["scored"], summary["rejected"], summary["rows"]) == (len(BAD), len(BAD), 2 * len(BAD))
    assert summary["rejects"] == str(tmp_path / "out.jsonl.rejects.jsonl")


def test_a_string_of_parquet_that_is_not_utf8_costs_its_own_row_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    count = 600  # of several batches
    words = [
        word.encode("cp949" if number == 299 else "utf-8") for number, word in enumerate(["가람"] * count)
    ]
    sentences = [
        sentence.encode("cp949" if number == 300 else "utf-8")
        for number, sentence in enumerate(["가람은 수원에 산다."] * count)
    ]
    strings = {
        name: pyarrow.array(cells, pyarrow.binary()).view(pyarrow.string())
        for name, cells in (("s", sentences), ("w", words))
    }
    subjects = pyarrow.StructArray.from_arrays([strings["w"]], ["word"])
    columns = {
        "guid": [f"g{number}" for number in range(count)],
        "sentence": strings["s"],
        "subject_entity": subjects,
    }
    parquet.write_table(
        pyarrow.table({**columns, "object_entity": [{"word": "수원"}] * count}), tmp_path / "rows.parquet"
    )
    assert main([str(tmp_path / "rows.parquet"), str(tmp_path / "out.jsonl")]) == 0
    summary = summary_of(capsys)
    assert (summary["scored"], summary["rejected"], summary["broken"]) == (count - 2, 2, None)
    rejects = lines_of(tmp_path / "out.jsonl.rejects.jsonl")
    assert [(reject["row"], reject["guid"]) for reject in rejects] == [(300, "g299"), (301, "g300")]
    for reject, column in zip(rejects, ("subject_entity", "sentence"), strict=True):
        assert reject["reason"].startswith(f"{column}: not UTF-8: ")


def test_a_run_without_rejects_takes_the_old_list_away(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"bad\n" + as_jsonl([GOOD]))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    assert (tmp_path / "out.jsonl.rejects.jsonl").exists()
    unlabelled = {key: value for key, value in GOOD.items() if key != "label"}
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl([unlabelled]))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


@pytest.mark.parametrize("before", [0, 1, 20])
def test_strict_stops_at_the_first_bad_row_without_an_output(
    before: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl([GOOD] * before) + b"bad\n" + as_jsonl([GOOD] * 20))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), "--strict", "--window", "4"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith(f"scoring: row {before + 1}, line {before + 1}: not JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_strict_is_content_with_good_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl([GOOD] * 5))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), "--strict"]) == 0


ROWS = make_long_rows(40)
BROKEN = {
    "cut.jsonl.gz": (gzip.compress(as_jsonl(ROWS))[:-200], "the gzip stream ends before it is whole"),
    "damaged.jsonl.gz": (gzip.compress(as_jsonl(ROWS)) + b"\x1f\x8bnonsense", "the gzip stream is damaged"),
    "wrong-sum.csv.gz": (gzip.compress(as_csv(ROWS * 2))[:-8] + b"\0" * 8, "the gzip stream is damaged"),
    "cut.json": (json.dumps(ROWS).encode()[:-300], "the file ends before the JSON array does"),
    "more.json": (json.dumps(ROWS).encode() + b"[]", "there is more after the end"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_input_that_breaks_off_is_scored_up_to_there(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, reason = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    arguments = [str(tmp_path / name), str(tmp_path / "out.jsonl"), "--window", "7"]
    assert main(arguments) == 1
    summary = summary_of(capsys)
    assert reason in summary["broken"]
    assert summary["scored"] == len(lines_of(tmp_path / "out.jsonl"))
    assert summary["scored"] >= 20
    assert reason in lines_of(tmp_path / "out.jsonl.rejects.jsonl")[-1]["reason"]
    assert main([*arguments, "--strict"]) == 1


@pytest.mark.parametrize("cut", ["start", "end"])
def test_zstd_that_breaks_off(cut: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = zstd(as_jsonl(ROWS[:20])), zstd(as_jsonl(ROWS[20:]))
    (tmp_path / "rows.jsonl.zst").write_bytes(frames[0] + (frames[1][:-50] if cut == "end" else b"nonsense"))
    assert main([str(tmp_path / "rows.jsonl.zst"), str(tmp_path / "out.jsonl")]) == 1
    summary = summary_of(capsys)
    assert (
        summary["broken"]
        == f"the zstd stream {'ends before it is whole' if cut == 'end' else 'is damaged here'}"
    )
    assert summary["scored"] >= 20


def test_rejects_go_to_stderr_where_the_output_is_a_stream(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"bad\n" + as_jsonl([GOOD]))
    monkeypatch.setattr(sys, "stdout", Standard())
    assert main([str(tmp_path / "rows.jsonl"), "-"]) == 0
    reject = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (reject["row"], reject["line"]) == (1, 1)


def test_an_engine_that_fails_is_one_plain_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of\nmemory")

    (tmp_path / "rows.jsonl").write_bytes(as_jsonl([GOOD] * 3))
    monkeypatch.setattr("models.ensemble.Ensemble.run", fail)
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]) == 1
    assert capsys.readouterr().err == "scoring: the engine failed on a batch of 3 rows: out of memory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.slow
def test_rejects_of_a_bomb_are_capped_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = zstd(b"x\n" * 100_500)
    assert len(bomb) < 100
    (tmp_path / "rows.jsonl.zst").write_bytes(zstd(as_jsonl([GOOD])) + bomb)
    assert main([str(tmp_path / "rows.jsonl.zst"), str(tmp_path / "out.jsonl")]) == 0
    summary = summary_of(capsys)
    assert (summary["scored"], summary["rejected"], summary["rejects_not_listed"]) == (1, 100_500, 500)
    assert len(lines_of(tmp_path / "out.jsonl.rejects.jsonl")) == 100_000
