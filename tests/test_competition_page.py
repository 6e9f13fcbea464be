"""The commands of docs/competition.md, as printed, with a tiny encoder and few rows in the same form."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from scoring_files import as_csv

from loadtest.sentences import Row
from models.labels import COMPETITION_RELATIONS
from models.rows import read_labelled, sentence

LIMIT_S = 60
"""What each command may take."""


def commands() -> list[str]:
    """The commands of the page, each on one line."""
    text = (ROOT / "docs" / "competition.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(fences).replace("\\\n", " ").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.slow
def test_the_pages_commands_lead_from_the_competitions_csv_to_a_submission(
    rows: list[Row], encoder_folder: Path, tmp_path: Path
) -> None:
    for name, some in (("train", rows[:200]), ("test", [{**row, "label": 100} for row in rows[200:240]])):
        (tmp_path / name).mkdir()
        file = "train.csv" if name == "train" else "test_data.csv"
        (tmp_path / name / file).write_bytes(as_csv(some))
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    given = {"COMPETITION": str(tmp_path), "KORE_ENCODER": str(encoder_folder)}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands():
        if setting := re.fullmatch(r"export (\w+)=(\S+)", command):
            environment[setting[1]] = given.get(setting[1], setting[2])
            continue
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=5 * LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
        print(f"{time.monotonic() - began:5.1f} s  {command}")
        if " --dry-run" in command:
            assert len(json.loads(done.stdout.splitlines()[-1])["members"]) == 5

    large = tmp_path / "runs" / "large"
    trained, held_out = (
        {sentence(row) for row in read_labelled(large / "rows" / f"{name}.jsonl")}
        for name in ("train", "validation")
    )
    assert trained
    assert held_out
    assert not trained & held_out
    for path in (
        large / "submission.csv",
        large / "query" / "submission.csv",
        large / "vote" / "submission.csv",
    ):
        with path.open(encoding="utf-8", newline="") as file:
            submitted = list(csv.DictReader(file))
        assert [row["id"] for row in submitted] == [str(number) for number in range(40)]
        for row in submitted:
            probabilities = json.loads(row["probs"])
            assert sum(probabilities) == pytest.approx(1)
            assert COMPETITION_RELATIONS[probabilities.index(max(probabilities))] == row["pred_label"]
    for report in (
        large / "competition-ensemble",
        *(large / "competition-ensemble" / "competition").glob("fold-*"),
    ):
        assert (report / "report.html").exists()
    assert (large / "validation.jsonl.report.html").exists()
