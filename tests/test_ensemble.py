"""The members' vote: the same example gives the same answer alone or in any batch, and the golden rows guard
the models."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from manifests import rewrite, sign
from onnx import numpy_helper

from engine.lanes import Lanes
from engine.split import Split
from loadtest.sentences import Row
from models.bundle import Bundle, BundleRefused
from models.classifier import OnnxClassifier
from models.encoding import EncodedBatch
from models.ensemble import DeviceUnavailable, Ensemble
from models.example import Example
from models.labels import RELATIONS
from models.voting import softmax


@pytest.fixture(scope="module")
def lanes(tiny_bundle: Path) -> Lanes:
    return Lanes.load(Bundle.open(tiny_bundle), "cpu", Split(lanes=2, threads=1))


@pytest.fixture(scope="module")
def ensemble(lanes: Lanes) -> Ensemble:
    return lanes.ensemble


@pytest.fixture(scope="module")
def examples(rows: list[Row]) -> list[Example]:
    return [Example.from_row(row) for row in rows[:200]]


def test_alone_or_in_any_batch_the_answer_is_the_same(ensemble: Ensemble, examples: list[Example]) -> None:
    encoded = [ensemble.encode(example) for example in examples]
    alone = np.stack([ensemble.run([row])[0].probabilities for row in encoded])
    together = np.stack([prediction.probabilities for prediction in ensemble.run(encoded)])
    assert np.abs(alone - together).max() < 1e-6


def test_predict_keeps_the_order_asked(lanes: Lanes, examples: list[Example]) -> None:
    forwards = lanes.predict(examples)
    backwards = lanes.predict(examples[::-1])
    for one, other in zip(forwards, backwards[::-1], strict=True):
        assert np.abs(one.probabilities - other.probabilities).max() < 1e-6


def test_predict_of_nothing_is_nothing(lanes: Lanes) -> None:
    assert lanes.predict([]) == []


def test_the_vote_is_the_weighted_mean_of_the_members_probabilities(
    ensemble: Ensemble, examples: list[Example]
) -> None:
    row = ensemble.encode(examples[0])
    batch = EncodedBatch.collate(row.encodings, pad_token_id=1)
    expected = np.zeros(len(RELATIONS))
    for member in ensemble.bundle.manifest.members:
        graph = member.file_for("cpu")
        assert graph is not None
        expected += (
            member.weight
            / 3
            * softmax(OnnxClassifier(ensemble.bundle.path / graph.path, threads=1)(batch))[0]
        )
    (prediction,) = ensemble.run([row])
    assert prediction.members == 2
    assert prediction.probabilities == pytest.approx(expected)
    assert prediction.probabilities.sum() == pytest.approx(1)


def test_the_tiny_ensemble_has_learnt_its_relations(lanes: Lanes, rows: list[Row]) -> None:
    predictions = lanes.predict([Example.from_row(row) for row in rows])
    right = sum(
        prediction.relation == row["label"] for prediction, row in zip(predictions, rows, strict=True)
    )
    assert right / len(rows) > 0.9


def test_members_that_share_an_encoding_share_the_tokens(ensemble: Ensemble, examples: list[Example]) -> None:
    assert len(ensemble.encode(examples[0]).encodings) == 1


def test_an_untouched_bundle_proves_itself(ensemble: Ensemble) -> None:
    ensemble.prove()


def test_a_prediction_says_whether_its_sentence_was_cut(tiny_bundle: Path, rows: list[Row]) -> None:
    ensemble = Ensemble.load(Bundle.open(tiny_bundle))
    short, *others = rows[:5]
    long = short | {"sentence": str(short["sentence"]) + " 그리고 오래도록 살았다." * 200}
    examples = [ensemble.encode(Example.from_row(row)) for row in (short, long, *others)]
    for every_member in (False, True):
        predictions = ensemble.run(examples, every_member=every_member)
        assert [prediction.truncated for prediction in predictions] == [False, True, *[False] * 4]
        assert predictions[1].document()["truncated"] is True


def test_members_with_permuted_classes_fail_the_golden_rows(tiny_bundle: Path, tmp_path: Path) -> None:
    """Hashes and labels agree, yet the head's rows were swapped: only an answer can tell."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    for graph in copy.glob("members/*/int8.onnx"):
        model = onnx.load(graph)
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if len(RELATIONS) in values.shape and values.dtype == np.float32:
                flipped = np.flip(values, axis=values.shape.index(len(RELATIONS)))
                tensor.CopyFrom(numpy_helper.from_array(flipped.copy(), tensor.name))
        onnx.save(model, graph)
    sign(copy)
    with pytest.raises(BundleRefused, match=r"golden row \d+, run alone, gives"):
        Ensemble.load(Bundle.open(copy)).prove()


def test_a_window_longer_than_the_models_positions_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    rewrite(copy, lambda manifest: manifest.update(max_length=1000))
    with pytest.raises(BundleRefused, match="a row of 1000 tokens, its max_length, fails"):
        Ensemble.load(Bundle.open(copy)).prove()


def test_an_answer_that_is_not_a_number_is_no_answer(
    tiny_bundle: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = Ensemble.load(Bundle.open(tiny_bundle))
    monkeypatch.setattr(
        OnnxClassifier,
        "run",
        lambda self, batch, states: (np.full((len(batch), len(RELATIONS)), np.nan, dtype=np.float32), None),
    )
    with pytest.raises(FloatingPointError):
        ensemble.run([ensemble.encode(examples[0])])
    with pytest.raises(BundleRefused):
        ensemble.prove()


def test_a_graph_that_is_none_is_refused_plainly(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    next(copy.glob("members/*/int8.onnx")).write_bytes(b"not a graph")
    sign(copy)
    with pytest.raises(BundleRefused, match=r"int8\.onnx"):
        Ensemble.load(Bundle.open(copy))


def test_a_tokenizer_that_is_none_is_refused_plainly(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    next(copy.glob("tokenizers/*.json")).write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    sign(copy)
    with pytest.raises(BundleRefused, match="tokenizers/"):
        Ensemble.load(Bundle.open(copy))


def test_a_gpu_is_refused_where_the_bundle_has_no_graphs_for_it(tiny_bundle: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="no graphs for cuda, only for cpu"):
        Ensemble.load(Bundle.open(tiny_bundle), "cuda")


def test_a_padding_that_no_model_knows_is_found_before_the_first_padded_batch(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """Alone no row is padded, so it takes the golden rows in one batch to find it."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))

    def change(manifest: dict[str, Any]) -> None:
        for member in manifest["members"]:
            member["encoding"]["pad_token_id"] = 10_000_000

    rewrite(copy, change)
    with pytest.raises(BundleRefused, match="a golden row, run in one batch, fails"):
        Ensemble.load(Bundle.open(copy)).prove()
