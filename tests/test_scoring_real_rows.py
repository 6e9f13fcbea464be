"""The default bundle on the real validation rows, out of a file of each form. Runs where KLUE_RE_DATA names the folder of the rows."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEFAULT_BUNDLE
from numpy.typing import NDArray
from test_scoring import INPUTS, lines_of, matrix, summary_of

import scoring.__main__
from models.bundle import Bundle
from models.ensemble import EncodedExample, Ensemble
from models.example import Prediction
from models.labels import RELATION_IDS, RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import read_labelled
from models.tuning import TunedEnsemble
from scoring.__main__ import main
from scoring.engine import Lanes, load

DATA = Path(os.environ.get("KLUE_RE_DATA", "")) / "validation.jsonl"

pytestmark = pytest.mark.skipif("KLUE_RE_DATA" not in os.environ, reason="KLUE_RE_DATA is not set")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    with DATA.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def expected() -> NDArray[np.float64]:
    predictions = Ensemble.load(Bundle.open(DEFAULT_BUNDLE)).predict([row.example for row in read_labelled(DATA)])
    return np.stack([prediction.probabilities for prediction in predictions])


@pytest.fixture(scope="module")
def lanes() -> TunedEnsemble:
    return load(Bundle.open(DEFAULT_BUNDLE), "auto", 6, 0)


@pytest.fixture(scope="module")
def answered() -> dict[bytes, Prediction]:
    return {}


@pytest.fixture
def remembering(answered: dict[bytes, Prediction], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first form is scored in full; in the others, rows that become the very same tokens have their answers already."""
    answer = Lanes._run

    def run(self: Lanes, rows: Sequence[EncodedExample]) -> list[Prediction]:
        keys = [b"".join(encoded.input_ids.tobytes() + encoded.entity_positions.tobytes() for encoded in row.encodings) for row in rows]
        new = [place for place, key in enumerate(keys) if key not in answered]
        if new:
            answered.update(zip([keys[place] for place in new], answer(self, [rows[place] for place in new]), strict=True))
        return [answered[key] for key in keys]

    monkeypatch.setattr(Lanes, "_run", run)


@pytest.mark.usefixtures("remembering")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz", "rows.parquet"])
def test_a_file_of_the_validation_rows_gives_the_ensembles_answers_and_metrics(
    name: str,
    rows: list[dict[str, Any]],
    expected: NDArray[np.float64],
    lanes: TunedEnsemble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write: Callable[[list[dict[str, Any]]], bytes] = INPUTS[name]
    monkeypatch.setattr(scoring.__main__, "load", lambda *_: lanes)
    (tmp_path / name).write_bytes(write(rows))
    assert main([str(tmp_path / name), str(tmp_path / "out.jsonl"), "--bundle", str(DEFAULT_BUNDLE), "--top-k", "30"]) == 0
    lines, summary = lines_of(tmp_path / "out.jsonl"), summary_of(capsys)
    assert [line["relation"] for line in lines] == [RELATIONS[index] for index in expected.argmax(axis=1)]
    assert np.abs(matrix(lines) - expected).max() < 1e-4
    assert (summary["rows"], summary["rejected"], summary["labelled"]) == (len(rows), 0, len(rows))
    labels = np.array([RELATION_IDS[row["label"]] for row in rows])
    assert summary["micro_f1"] == pytest.approx(micro_f1(labels, expected.argmax(axis=1)), abs=0.01)
    assert summary["auprc"] == pytest.approx(auprc(labels, expected), abs=0.01)


def test_with_every_member_voting_the_metrics_are_the_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DATA), str(tmp_path / "out.jsonl"), "--bundle", str(DEFAULT_BUNDLE), "--cascade-caution", "1"]) == 0
    summary, quality = summary_of(capsys), Bundle.open(DEFAULT_BUNDLE).manifest.quality["cpu"]
    assert (summary["scored"], summary["labelled"]) == (quality.rows, quality.rows)
    assert summary["micro_f1"] == pytest.approx(quality.micro_f1, abs=0.1), "a near-tie may fall the other way on another processor"
    assert summary["auprc"] == pytest.approx(quality.auprc, abs=0.1)
