"""Killed at any moment and resumed: the same rows in the same order, none twice, none missing."""

import gzip
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scoring_files import as_csv, as_jsonl, lines_of, matrix, refusal, summary_of

from loadtest.sentences import make_long_rows
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction
from scoring.__main__ import main
from scoring.compare import read_predictions
from scoring.journal import Finished, Journal, Tally
from scoring.paths import Paths

ROOT = Path(__file__).parents[1]
KILLS = 20
PARTS_AND_STATE = ["out.jsonl.partial.rejects", "out.jsonl.partial.labelled", "out.jsonl.partial.state.new"]

KILLED = """
import os, signal, sys
left = int(sys.argv.pop(1))
part = sys.argv.pop(1)

def local(frame, event, argument):
    global left
    if event == "line":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return local

from scoring.__main__ import main
import scoring.parquet, scoring.report, scoring.run
sys.settrace(lambda frame, event, argument: local if part in frame.f_code.co_filename else None)
status = main(sys.argv[1:])
sys.settrace(None)
print("lines", -left, file=sys.stderr)
sys.exit(status)
"""
"""Runs scoring and kills itself with SIGKILL before the n-th line of code of a part of the package."""


def run(arguments: list[str], kill_at: int = 0, part: str = "/scoring/") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, str(kill_at), part, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def job(folder: Path, tiny_bundle: Path, name: str = "rows.jsonl", output: str = "out.jsonl") -> list[str]:
    rows = make_long_rows(60)
    data = as_jsonl(rows)
    lines = data.splitlines(keepends=True)
    bad = b"".join([*lines[:13], b"bad\n", *lines[13:40], b"[]\n", b"{}\n", *lines[40:]])
    forms = {
        "rows.jsonl": bad,
        "rows.jsonl.gz": gzip.compress(bad),
        "rows.csv": as_csv(rows),
        "rows.json": json.dumps(rows).encode(),
    }
    (folder / name).write_bytes(forms[name])
    flags = ["--bundle", str(tiny_bundle), "--window", "5", "--tuning-s", "0", "--top-k", "30", "--resume"]
    return [str(folder / name), str(folder / output), *flags]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("rows.jsonl", "out.jsonl"),
        ("rows.jsonl.gz", "out.csv.gz"),
        ("rows.csv", "submission.csv"),
        ("rows.json", "out.parquet"),
    ],
)
def test_killed_and_resumed_it_is_as_if_it_had_never_been_killed(
    name: str, output: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    if output.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = run(job(tmp_path / "whole", tiny_bundle, name, output))
    assert whole.returncode == 0, whole.stderr
    generator = random.Random(name)
    arguments = job(tmp_path / "killed", tiny_bundle, name, output)
    everywhere = int(whole.stderr.split("lines ")[1])
    kills = 0
    while kills < KILLS // 4:
        # Now anywhere in the package, now where files are written and renamed.
        part, most = ("/scoring/", everywhere) if generator.random() < 0.4 else ("/scoring/journal.py", 700)
        resumed = run(arguments, generator.randint(1, most), part)
        kills += resumed.returncode < 0
        assert resumed.returncode in (0, -9), resumed.stderr
    finished = run(arguments)
    assert finished.returncode == 0, finished.stderr
    summary, before = (json.loads(done.stdout.splitlines()[-1]) for done in (finished, whole))
    for field in ("rows", "scored", "rejected", "labelled", "micro_f1"):
        assert summary[field] == before[field]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )
    ours, theirs = (list(read_predictions(tmp_path / folder / output)) for folder in ("killed", "whole"))
    assert [{**line, "probabilities": 0, "score": 0} for line in ours] == [
        {**line, "probabilities": 0, "score": 0} for line in theirs
    ]
    assert np.abs(matrix(ours) - matrix(theirs)).max() < 1e-6, (
        "batches may differ from run to run, by their measured cost"
    )
    if summary["rejected"]:
        rejects = [
            (tmp_path / folder / f"{output}.rejects.jsonl").read_bytes() for folder in ("killed", "whole")
        ]
        assert rejects[0] == rejects[1]


def stopped(folder: Path, tiny_bundle: Path) -> list[str]:
    """A job that was killed after some windows."""
    arguments = job(folder, tiny_bundle)
    killed = run(arguments, 200, "/scoring/journal.py")
    assert killed.returncode == -9
    state = json.loads((folder / "out.jsonl.partial.state").read_text())
    assert 5 <= state["tally"]["rows"] < 60
    return arguments


@pytest.mark.usefixtures("engine")
def test_what_a_kill_left_behind_a_window_is_cut_off(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = stopped(tmp_path, tiny_bundle)
    with (tmp_path / "out.jsonl.partial").open("ab") as file:
        file.write(b'{"relation": "half a li')
    done = json.loads((tmp_path / "out.jsonl.partial.state").read_text())["tally"]["rows"]
    assert main(arguments) == 0
    assert summary_of(capsys)["resumed_after_rows"] == done
    assert len(lines_of(tmp_path / "out.jsonl")) == 60


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("change", ["input", "device", "options", "bundle", "shorter", "state", "tally"])
def test_another_job_is_refused(
    change: str,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = stopped(tmp_path, tiny_bundle)
    reason = f"had another {change}"
    if change == "input":
        with (tmp_path / "rows.jsonl").open("ab") as file:
            file.write(b"\n")
    elif change == "device":  # the same command on another machine
        monkeypatch.setattr("scoring.run.choose_device", lambda *_: ("cuda", "there is one here"))
    elif change == "options":
        arguments[arguments.index("30")] = "29"
    elif change == "bundle":
        arguments[arguments.index("--bundle") + 1] = str(ROOT / "bundles" / "default")
    elif change == "shorter":
        os.truncate(tmp_path / "out.jsonl.partial", 10)
        reason = "shorter than its state says"
    else:
        path = tmp_path / "out.jsonl.partial.state"
        state = {**json.loads(path.read_bytes()), "tally": {"lines": 3}}  # another version's, say
        path.write_text("[]" if change == "state" else json.dumps(state))
        reason = "not the state of a run"
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(arguments) == 2
    assert reason in refusal(capsys)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left
    arguments.remove("--resume")
    if change != "bundle":
        assert main(arguments) == 0
        assert summary_of(capsys)["resumed_after_rows"] == 0


@pytest.mark.usefixtures("engine")
def test_a_second_run_of_the_same_output_is_refused(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    arguments = stopped(tmp_path, tiny_bundle)
    with (tmp_path / "out.jsonl.partial.labelled").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for flags in (arguments, arguments[:-1]):
            assert main(flags) == 2
            assert "another run is writing it" in refusal(capsys)
    assert main(arguments) == 0
    assert summary_of(capsys)["resumed_after_rows"] > 0


def test_a_full_disk_is_one_plain_line_and_costs_no_finished_row(tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = job(tmp_path, tiny_bundle)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    command = [sys.executable, "-m", "scoring", *arguments]
    code = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, -1)); "
        "os.execv(sys.executable, sys.argv[1:])"
    )
    assert soft == hard == resource.RLIM_INFINITY, "this test lowers the limit for its own child only"
    full = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    assert "File too large; " in full.stderr.splitlines()[-1]
    assert "rows are finished and kept: --resume continues after them" in full.stderr.splitlines()[-1]
    again = run(arguments)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_after_rows"] > 0
    assert len(lines_of(tmp_path / "out.jsonl")) == 60


@pytest.mark.usefixtures("engine")
def test_ctrl_c_keeps_what_is_finished(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, answered = Ensemble.run, [0]

    def interrupted(self: Ensemble, rows: Sequence[EncodedExample], *arguments: Any) -> list[Prediction]:
        answered[0] += len(rows)
        if answered[0] > 20:  # two windows of five rows are finished by then
            raise KeyboardInterrupt
        return answer(self, rows, *arguments)

    arguments = job(tmp_path, tiny_bundle)
    with monkeypatch.context() as patched:
        patched.setattr(Ensemble, "run", interrupted)
        assert main(arguments) == 130
    assert "rows are finished and kept" in capsys.readouterr().err
    assert main(arguments) == 0
    assert summary_of(capsys)["resumed_after_rows"] >= 10
    assert len(lines_of(tmp_path / "out.jsonl")) == 60


def test_a_window_is_on_the_disk_before_the_state_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure between any two steps loses no finished row: first the parts are written, then the new
    state, then its name."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    paths = Paths(tmp_path / "out.jsonl")
    state: list[list[str]] = []
    with Journal(paths, {}, resume=False) as journal:
        for rows in (1, 2):
            before = paths.state.read_bytes() if rows == 2 else None
            replace = Path.replace

            def replaced(self: Path, target: Path, replace: Any = replace, before: Any = before) -> Path:
                assert (paths.state.read_bytes() if paths.state.exists() else None) == before
                state.append(list(synced))
                return Path(replace(self, target))

            with monkeypatch.context() as patched:
                patched.setattr(Path, "replace", replaced)
                journal.commit(Finished(b"o", b"r", b"l"), Tally(rows, rows))
            assert state.pop() == synced == ["out.jsonl.partial", *PARTS_AND_STATE]
            synced.clear()
