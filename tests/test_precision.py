"""The benchmark that compares the precisions of two bundles."""

import json
from pathlib import Path

import pytest

from benchmarks.precision import main


def test_a_bundle_agrees_with_itself_and_the_exit_status_tells_whether_it_is_fast_enough(
    tiny_bundle: Path, rows_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([str(tiny_bundle), str(tiny_bundle), "--data", str(rows_file), "--turns", "3"])
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert [member["agreement"] for member in summary["members"]] == [1.0, 1.0]
    assert all(member["micro_f1"] == member["micro_f1_of_reference"] for member in summary["members"])
    assert (status == 0) == (summary["ratio"] >= 1.7) == ("BROKEN" not in said.err)
