"""The default bundle on the real validation rows: over HTTP one by one and in batches, and from files. All of
them must agree with the rows posted one by one. Needs KLUE_RE_DATA, the folder of the rows."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEFAULT_BUNDLE, serve
from numpy.typing import NDArray
from scoring_files import INPUTS, lines_of, matrix, summary_of

import scoring.__main__
from engine.lanes import Lanes
from models.bundle import Bundle
from models.labels import RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import label_ids, read_labelled

DATA = Path(os.environ.get("KLUE_RE_DATA", "")) / "validation.jsonl"
CALLERS = 16
BATCH = 32

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("KLUE_RE_DATA" not in os.environ, reason="KLUE_RE_DATA is not set"),
]


@dataclass(frozen=True)
class Served:
    """The server's answers for all rows.

    Attributes:
        singly, together: probabilities of rows posted one by one and in batches, both of shape (rows, 30).
        members: how many members voted on each row posted alone, of shape (rows,).
    """

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
    # 512 examples at a time: with the default deadline a slow machine would refuse some.
    with serve(DEFAULT_BUNDLE, request_timeout_s=600) as client, ThreadPoolExecutor(CALLERS) as callers:

        def answer_to(document: dict[str, Any]) -> Any:
            answer = client.post("/relations", json={**document, "top_k": 30})
            assert answer.status_code == 200, answer.text
            return answer.json()

        singly = list(callers.map(answer_to, rows))
        batches = [{"examples": rows[start : start + BATCH]} for start in range(0, len(rows), BATCH)]
        together = [
            prediction for answer in callers.map(answer_to, batches) for prediction in answer["predictions"]
        ]
    return Served(
        matrix(singly), matrix(together), np.array([prediction["members"] for prediction in singly])
    )


def test_rows_posted_one_by_one_or_in_batches_get_the_bundles_answers(served: Served) -> None:
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
    shares = [np.mean(served.members == count) for count in range(1, len(cascade.shares) + 1)]
    assert shares == pytest.approx(cascade.shares, abs=0.005)
    assert micro_f1(labels, served.singly.argmax(axis=1)) == pytest.approx(cascade.quality.micro_f1, abs=0.1)
    assert auprc(labels, served.singly) == pytest.approx(cascade.quality.auprc, abs=0.1)


@pytest.mark.parametrize(
    ("name", "step"),
    [("rows.jsonl", 1), ("rows.json", 8), ("rows.csv", 8), ("rows.jsonl.gz", 8), ("rows.parquet", 8)],
)
def test_files_of_every_form_get_the_answers_and_metrics_of_the_server(
    name: str,
    step: int,
    rows: list[dict[str, Any]],
    labels: NDArray[np.int64],
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """JSONL with all rows, the other forms with every eighth row. Each file is really scored."""
    rows, labels, singly = rows[::step], labels[::step], served.singly[::step]
    (tmp_path / name).write_bytes(INPUTS[name](rows))
    output = tmp_path / "out.jsonl"
    options = ["--bundle", str(DEFAULT_BUNDLE), "--top-k", "30", "--tuning-s", "0"]
    assert scoring.__main__.main([str(tmp_path / name), str(output), *options]) == 0
    lines, summary = lines_of(output), summary_of(capsys)
    assert [line["relation"] for line in lines] == [RELATIONS[index] for index in singly.argmax(axis=1)]
    assert np.abs(matrix(lines) - singly).max() < 1e-4
    assert (summary["rows"], summary["rejected"], summary["labelled"]) == (len(rows), 0, len(rows))
    assert summary["micro_f1"] == pytest.approx(micro_f1(labels, singly.argmax(axis=1)), abs=0.01)
    assert summary["auprc"] == pytest.approx(auprc(labels, singly), abs=0.01)


def test_when_every_member_votes_the_metrics_are_the_manifests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bundle", str(DEFAULT_BUNDLE), "--cascade-caution", "1", "--tuning-s", "0"]
    assert scoring.__main__.main([str(DATA), str(tmp_path / "out.jsonl"), *options]) == 0
    summary, manifest = summary_of(capsys), Bundle.open(DEFAULT_BUNDLE).manifest
    quality = manifest.quality["cpu"]
    assert (summary["scored"], summary["labelled"]) == (quality.rows, quality.rows)
    assert summary["micro_f1"] == pytest.approx(quality.micro_f1, abs=0.1), (
        "a near-tie may fall the other way on another processor"
    )
    assert summary["auprc"] == pytest.approx(quality.auprc, abs=0.1)
    assert quality.micro_f1 >= 60
    assert manifest.cascade is not None
    assert quality.micro_f1 - manifest.cascade.cross_fitted.micro_f1 <= 0.3


def test_the_default_bundle_was_proven_on_these_rows(labels: NDArray[np.int64]) -> None:
    manifest = Bundle.open(DEFAULT_BUNDLE).manifest
    layers = [sum(stage.layers for stage in manifest.chain(member)) for member in manifest.members]
    assert layers == [4, 6, 8, 12]
    for member in manifest.members:
        parity = member.files[0].parity
        assert (parity.rows, member.files[0].precision) == (len(labels), "int8")
        assert parity.label_agreement >= 0.96
        assert parity.micro_f1_before - parity.micro_f1 <= 0.5
