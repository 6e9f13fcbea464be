"""The benchmark of versions: ratios within a pair, and a revision that does not exist. No server is
started."""

import pytest

from benchmarks.versions import compare, main
from loadtest.traffic import Measurement


def measured(rps: float, p99_ms: float | None = 50.0, **errors: int) -> Measurement:
    return Measurement(16, 1.0, 10, rps, 10.0, 20.0, p99_ms, errors, {}, 0, 0.1)


def test_the_median_ratio_is_of_the_pairs_and_not_of_the_medians() -> None:
    pairs = [(100, 100), (50, 60), (200, 180)]
    level = compare([{"old": measured(old), "new": measured(new)} for old, new in pairs])
    assert level["rps"] == {"old": 100, "new": 100, "ratio": 1.0, "ratios": [1.0, 1.2, 0.9]}
    assert level["p99_ms"]["ratio"] == 1.0
    assert level["errors"] == 0


def test_a_server_without_an_answer_has_no_ratio() -> None:
    level = compare([{"old": measured(100), "new": measured(0, None, refused=3)}])
    assert (level["rps"]["ratio"], level["p99_ms"]["ratio"], level["errors"]) == (None, None, 3)


def test_an_unknown_revision_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["no-such-revision"])
    assert stopped.value.code == 2
    assert "no commit 'no-such-revision'" in capsys.readouterr().err
