"""The default bundle on the real validation rows, over real HTTP and out of files of each form. Runs where
KLUE_RE_DATA names the folder of the rows. Each way to an answer goes over all of them once: what was posted
singly is what the others must say too."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEFAULT_BUNDLE
from numpy.typing import NDArray
from servers import serve
from test_scoring import INPUTS, lines_of, matrix, summary_of

import scoring.__main__
from engine.lanes import Lanes
from engine.settings import EngineSettings
from engine.tuning import TunedEnsemble, load
from models.bundle import Bundle
from models.ensemble import EncodedExample
from models.example import Prediction
from models.labels import RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import label_ids, read_labelled
from scoring.engine import WindowRunner

DATA = Path(os.environ.get("KLUE_RE_DATA", "")) / "validation.jsonl"
CALLERS = 16
BATCH = 32

pytestmark = pytest.mark.skipif("KLUE_RE_DATA" not in os.environ, reason="KLUE_RE_DATA is not set")


@dataclass(frozen=True)
class Served:
    """What the server said of every row, posted singly and in batches: probabilities of shape (rows, 30), and
    how many members voted."""

    singly: NDArray[np.float64]
    together: NDArray[np.float64]
    members: NDArray[np.int64]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    with DATA.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    return label_ids(read_labelled(DATA))


@pytest.fixture(scope="module")
def served(rows: list[dict[str, Any]]) -> Served:
    # 512 examples at a time, other tests beside them: within the usual deadline a slow machine would rightly
    # refuse some.
    with serve(DEFAULT_BUNDLE, request_timeout_s=600) as client, ThreadPoolExecutor(CALLERS) as callers:

        def ask(document: dict[str, Any]) -> Any:
            answer = client.post("/relations", json={**document, "top_k": 30})
            assert answer.status_code == 200, answer.text
            return answer.json()

        singly = list(callers.map(ask, rows))
        batches = [{"examples": rows[start : start + BATCH]} for start in range(0, len(rows), BATCH)]
        together = [
            prediction for answer in callers.map(ask, batches) for prediction in answer["predictions"]
        ]
    return Served(
        matrix(singly), matrix(together), np.array([prediction["members"] for prediction in singly])
    )


def test_posted_singly_or_in_batches_rows_get_the_bundles_answers(served: Served) -> None:
    assert (served.singly.argmax(axis=1) == served.together.argmax(axis=1)).all()
    assert np.abs(served.singly - served.together).max() < 1e-4
    examples = [row.example for row in read_labelled(DATA)][::8]
    direct = np.stack(
        [prediction.probabilities for prediction in Lanes.load(Bundle.open(DEFAULT_BUNDLE)).predict(examples)]
    )
    assert (served.singly[::8].argmax(axis=1) == direct.argmax(axis=1)).all()
    assert np.abs(served.singly[::8] - direct).max() < 1e-4


def test_the_cascade_is_as_good_as_the_manifest_says(served: Served, labels: NDArray[np.int64]) -> None:
    cascade = Bundle.open(DEFAULT_BUNDLE).manifest.cascade
    assert cascade is not None
    assert cascade.quality.rows == len(labels)
    assert [np.mean(served.members == count) for count in (1, 2)] == pytest.approx(cascade.shares, abs=0.005)
    assert micro_f1(labels, served.singly.argmax(axis=1)) == pytest.approx(cascade.quality.micro_f1, abs=0.1)
    assert auprc(labels, served.singly) == pytest.approx(cascade.quality.auprc, abs=0.1)


@pytest.fixture(scope="module")
def lanes() -> TunedEnsemble:
    return load(Bundle.open(DEFAULT_BUNDLE), EngineSettings(tuning_s=6, all_cores_for_one=False))


@pytest.fixture(scope="module")
def answered() -> dict[bytes, Prediction]:
    return {}


@pytest.fixture
def remembering(answered: dict[bytes, Prediction], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first form is scored in full; in the others, rows that become the very same tokens have their
    answers already."""
    answer = WindowRunner._run

    def run(self: WindowRunner, rows: Sequence[EncodedExample]) -> list[Prediction]:
        keys = [
            b"".join(
                encoded.input_ids.tobytes() + encoded.entity_positions.tobytes() for encoded in row.encodings
            )
            for row in rows
        ]
        new = [place for place, key in enumerate(keys) if key not in answered]
        if new:
            answered.update(
                zip([keys[place] for place in new], answer(self, [rows[place] for place in new]), strict=True)
            )
        return [answered[key] for key in keys]

    monkeypatch.setattr(WindowRunner, "_run", run)


@pytest.mark.usefixtures("remembering")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz", "rows.parquet"])
def test_out_of_a_file_of_any_form_rows_get_the_same_answers_and_metrics(
    name: str,
    rows: list[dict[str, Any]],
    labels: NDArray[np.int64],
    served: Served,
    lanes: TunedEnsemble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write: Callable[[list[dict[str, Any]]], bytes] = INPUTS[name]
    monkeypatch.setattr(scoring.__main__, "load", lambda *_: lanes)
    (tmp_path / name).write_bytes(write(rows))
    given = [
        str(tmp_path / name),
        str(tmp_path / "out.jsonl"),
        "--bundle",
        str(DEFAULT_BUNDLE),
        "--top-k",
        "30",
    ]
    assert scoring.__main__.main(given) == 0
    lines, summary = lines_of(tmp_path / "out.jsonl"), summary_of(capsys)
    assert [line["relation"] for line in lines] == [
        RELATIONS[index] for index in served.singly.argmax(axis=1)
    ]
    assert np.abs(matrix(lines) - served.singly).max() < 1e-4
    assert (summary["rows"], summary["rejected"], summary["labelled"]) == (len(rows), 0, len(rows))
    assert summary["micro_f1"] == pytest.approx(micro_f1(labels, served.singly.argmax(axis=1)), abs=0.01)
    assert summary["auprc"] == pytest.approx(auprc(labels, served.singly), abs=0.01)


def test_with_every_member_voting_the_metrics_are_the_manifests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        scoring.__main__.main(
            [
                str(DATA),
                str(tmp_path / "out.jsonl"),
                "--bundle",
                str(DEFAULT_BUNDLE),
                "--cascade-caution",
                "1",
            ]
        )
        == 0
    )
    summary, manifest = summary_of(capsys), Bundle.open(DEFAULT_BUNDLE).manifest
    quality = manifest.quality["cpu"]
    assert (summary["scored"], summary["labelled"]) == (quality.rows, quality.rows)
    assert summary["micro_f1"] == pytest.approx(quality.micro_f1, abs=0.1), (
        "a near-tie may fall the other way on another processor"
    )
    assert summary["auprc"] == pytest.approx(quality.auprc, abs=0.1)
    assert quality.micro_f1 >= 44
    assert manifest.cascade is not None
    assert quality.micro_f1 - manifest.cascade.cross_fitted.micro_f1 <= 0.3


def test_the_default_bundle_was_proven_on_these_rows(labels: NDArray[np.int64]) -> None:
    manifest = Bundle.open(DEFAULT_BUNDLE).manifest
    full, cheap = manifest.members[-1], manifest.members[0]
    assert cheap.layers * 2 <= full.layers
    for member in manifest.members:
        parity = member.files[0].parity
        assert (parity.rows, member.files[0].precision) == (len(labels), "int8")
        assert parity.label_agreement >= 0.96
        assert parity.micro_f1_before - parity.micro_f1 <= 0.5
