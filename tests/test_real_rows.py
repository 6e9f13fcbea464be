"""The default bundle on the real validation rows, over real HTTP. Runs where KLUE_RE_DATA names the folder of the rows."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEFAULT_BUNDLE, serve
from numpy.typing import NDArray

from models.bundle import Bundle
from models.ensemble import Ensemble
from models.labels import RELATION_IDS, RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import label_ids, read_labelled

DATA = Path(os.environ.get("KLUE_RE_DATA", "")) / "validation.jsonl"
CALLERS = 16
BATCH = 32

pytestmark = pytest.mark.skipif("KLUE_RE_DATA" not in os.environ, reason="KLUE_RE_DATA is not set")


@pytest.fixture(scope="module")
def raw_rows() -> list[dict[str, Any]]:
    with DATA.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def matrix(predictions: list[dict[str, Any]]) -> NDArray[np.float64]:
    """HTTP's predictions with top_k 30 as probabilities of shape (rows, 30)."""
    return np.array([[prediction["probabilities"][relation] for relation in RELATIONS] for prediction in predictions])


def test_rows_posted_singly_and_in_batches_get_the_bundles_answers_and_metrics(raw_rows: list[dict[str, Any]]) -> None:
    with serve(DEFAULT_BUNDLE) as client, ThreadPoolExecutor(CALLERS) as callers:

        def ask(document: dict[str, Any]) -> Any:
            answer = client.post("/relations", json={**document, "top_k": 30})
            assert answer.status_code == 200, answer.text
            return answer.json()

        singly = list(callers.map(ask, raw_rows))
        batches = [{"examples": raw_rows[start : start + BATCH]} for start in range(0, len(raw_rows), BATCH)]
        together = [prediction for answer in callers.map(ask, batches) for prediction in answer["predictions"]]
    bundle = Bundle.open(DEFAULT_BUNDLE)
    labelled = read_labelled(DATA)
    direct = np.stack([p.probabilities for p in Ensemble.load(bundle).predict([row.example for row in labelled])])
    for served in (singly, together):
        assert [prediction["relation"] for prediction in served] == [RELATIONS[index] for index in direct.argmax(axis=1)]
        assert np.abs(matrix(served) - direct).max() < 1e-4
    labels, cascade = label_ids(labelled), bundle.manifest.cascade
    predicted = np.array([RELATION_IDS[prediction["relation"]] for prediction in singly])
    assert cascade is not None
    assert cascade.quality.rows == len(labels)
    shares = [np.mean([prediction["members"] == count for prediction in singly]) for count in (1, 2)]
    assert shares == pytest.approx(cascade.shares, abs=0.005)
    assert micro_f1(labels, predicted) == pytest.approx(cascade.quality.micro_f1, abs=0.1)
    assert auprc(labels, matrix(singly)) == pytest.approx(cascade.quality.auprc, abs=0.1)


def test_every_member_voting_gives_the_manifests_metrics_and_the_cascade_costs_little() -> None:
    bundle, labelled = Bundle.open(DEFAULT_BUNDLE), read_labelled(DATA)
    predictions = Ensemble.load(bundle, cascade_caution=1.0).predict([row.example for row in labelled])
    labels, quality = label_ids(labelled), bundle.manifest.quality["cpu"]
    assert {prediction.members for prediction in predictions} == {len(bundle.manifest.members)}
    assert micro_f1(labels, np.array([p.label_id for p in predictions])) == pytest.approx(quality.micro_f1, abs=0.1), (
        "a near-tie may fall the other way on another processor"
    )
    assert auprc(labels, np.stack([p.probabilities for p in predictions])) == pytest.approx(quality.auprc, abs=0.1)
    assert quality.micro_f1 >= 44
    assert bundle.manifest.cascade is not None
    assert quality.micro_f1 - bundle.manifest.cascade.cross_fitted.micro_f1 <= 0.3


def test_the_default_bundle_was_proven_on_these_rows() -> None:
    manifest = Bundle.open(DEFAULT_BUNDLE).manifest
    rows = len(read_labelled(DATA))
    full, cheap = manifest.members[-1], manifest.members[0]
    assert cheap.layers * 2 <= full.layers
    for member in manifest.members:
        parity = member.files[0].parity
        assert (parity.rows, member.files[0].precision) == (rows, "int8")
        assert parity.label_agreement >= 0.96
        assert parity.micro_f1_before - parity.micro_f1 <= 0.5
