"""Many files on a Ray cluster: each is what scoring it alone makes of it, a worker that dies costs nothing,
nothing is done twice."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scoring_files import as_csv, as_jsonl, matrix

import scoring.__main__
from engine.settings import EngineSettings
from loadtest.sentences import make_long_rows
from scoring.cluster import FileScorer, main
from scoring.compare import read_predictions
from scoring.options import ScoringOptions

pytest.importorskip("ray")
ROOT = Path(__file__).parents[1]

DYING = """
import os, signal, sys
import scoring.cluster

class Dying(scoring.cluster.FileScorer):
    def __call__(self, file):
        from models.ensemble import Ensemble
        died = file["output"] + ".died"
        if not os.path.exists(died):
            open(died, "x").close()
            answer, rows = Ensemble.run, []
            def dies_after_two_windows(self, batch, *arguments):
                rows.extend(batch)
                if len(rows) > 10:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer(self, batch, *arguments)
            Ensemble.run = dies_after_two_windows
        return super().__call__(file)

scoring.cluster.FileScorer = Dying
sys.exit(scoring.cluster.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_every_file_becomes_what_scoring_it_alone_makes_of_it_though_workers_die(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    rows = make_long_rows(40)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(as_jsonl(rows[:25]) + b"bad\n")
    (tmp_path / "in" / "b.csv.gz").write_bytes(gzip.compress(as_csv(rows[25:])))
    (tmp_path / "in" / "none.parquet").write_bytes(b"none")
    flags = ["--bundle", str(tiny_bundle), "--cpus", "1", "--tuning-s", "0", "--window", "5", "--top-k", "30"]
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "in"), str(tmp_path / "out"), *flags],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    counts = {name: summary[name] for name in ("files", "rows", "scored", "rejected", "broken")}
    assert counts == {"files": 3, "rows": 41, "scored": 40, "rejected": 1, "broken": []}
    assert [Path(failure["input"]).name for failure in summary["failed"]] == ["none.parquet"], (
        "which costs no other file"
    )
    assert "not a Parquet file" in done.stderr
    for name, output in (("a.jsonl", "a.jsonl"), ("b.csv.gz", "b.jsonl")):
        alone = tmp_path / f"alone-{output}"
        assert scoring.__main__.main([str(tmp_path / "in" / name), str(alone), "--top-k", "30"]) == 0
        ours, theirs = (list(read_predictions(path)) for path in (tmp_path / "out" / output, alone))
        assert [line.get("guid") for line in ours] == [line.get("guid") for line in theirs]
        assert np.abs(matrix(ours) - matrix(theirs)).max() < 1e-6
        kept = json.loads((tmp_path / "out" / f"{output}.summary.json").read_text())["summary"]
        assert kept["resumed_after_rows"] >= 5, "killed after a finished window"
    assert b'"line": 26' in (tmp_path / "out" / "a.jsonl.rejects.jsonl").read_bytes()


@pytest.fixture
def worker(tiny_bundle: Path) -> FileScorer:
    engine = EngineSettings(bundle=tiny_bundle, tuning_s=0, all_cores_for_one=False)
    options = ScoringOptions(
        input="",
        output="",
        resume=True,
        strict=False,
        input_form=None,
        encoding=None,
        output_form="jsonl",
        top_k=1,
        label_order="competition",
        window=5,
        engine=engine,
    )
    return FileScorer(options, cores=1)


def test_what_is_finished_is_not_scored_again_unless_it_has_changed(
    worker: FileScorer, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_jsonl(make_long_rows(10)) + b"bad\n")
    file = {"input": str(tmp_path / "a.jsonl"), "output": str(tmp_path / "out.jsonl")}
    first = worker(file)
    written = (tmp_path / "out.jsonl").stat().st_mtime_ns
    assert worker(file) == first
    assert (tmp_path / "out.jsonl").stat().st_mtime_ns == written
    (tmp_path / "a.jsonl").write_bytes(as_jsonl(make_long_rows(4)))
    assert json.loads(worker(file)["outcome"])["rows"] == 4
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()
    (tmp_path / "out.jsonl").unlink()
    assert json.loads(worker(file)["outcome"])["rows"] == 4, "the output is gone"
    assert (tmp_path / "out.jsonl").exists()


def test_an_error_of_a_file_is_its_outcome(
    worker: FileScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_jsonl(make_long_rows(3)))
    file = {"input": str(tmp_path / "a.jsonl"), "output": os.fsdecode(bytes(tmp_path) + b"/\xb0\xa1.jsonl")}
    assert json.loads(worker(file)["outcome"])["scored"] == 3, (
        "a name that is not UTF-8 is none of a file's faults"
    )
    assert worker(file) == worker(file)

    def fail(*_: object) -> None:
        raise RuntimeError("nobody\nthought of this")

    monkeypatch.setattr("scoring.run.run", fail)
    outcome = json.loads(worker(file | {"output": str(tmp_path / "out.jsonl")})["outcome"])
    assert outcome == {"error": "RuntimeError: thought of this"}


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (["missing"], "there is no file to score"),
        (["empty"], "there is no file to score"),
        (["a/x.jsonl", "b/x.csv"], "would both write"),
        (["a/x.jsonl", "b/x.jsonl.rejects.jsonl"], "would both write"),
        (["out/x.jsonl"], "this is an input"),
        (["a/x.jsonl", "out/x.jsonl.report.html"], "this is an input"),
    ],
)
def test_what_cannot_work_is_refused_before_ray_starts(
    inputs: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/x.jsonl", "b/x.csv", "b/x.jsonl.rejects.jsonl", "out/x.jsonl", "out/x.jsonl.report.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}\n")
    (tmp_path / "empty").mkdir()
    assert main([*(str(tmp_path / name) for name in inputs), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_without_a_cluster_at_its_address_there_is_one_plain_line(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"{}\n")
    address = ["--address", "127.0.0.1:1", "--bundle", str(tiny_bundle)]
    assert main([str(tmp_path / "x.jsonl"), str(tmp_path / "out"), *address]) == 2
    assert "no Ray cluster at 127.0.0.1:1" in capsys.readouterr().err
