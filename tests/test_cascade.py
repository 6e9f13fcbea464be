"""Rows whose vote is certain stop early: thresholds that keep to a loss, answers that do not depend on their
neighbours, a setting."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import refusal, rewrite

from engine.lanes import Lanes
from export import cascade, inspect, verify
from export.thresholds import Votes, fit
from loadtest.sentences import Row
from loadtest.server import running
from models.bundle import Bundle, Manifest
from models.ensemble import Ensemble
from models.example import Example
from models.labels import RELATIONS
from models.metrics import micro_f1


def noisy_votes(rows: int, members: int, seed: int = 0) -> Votes:
    """Members that know the label better, the later they come; the surer, the more often right."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, len(RELATIONS), rows)
    easiness = generator.uniform(0, 6, rows)
    logits = generator.normal(0, 1.5, (members, rows, len(RELATIONS)))
    logits[:, np.arange(rows), labels] += easiness + np.arange(members)[:, None]
    exponentials = np.exp(logits)
    return Votes.of(exponentials / exponentials.sum(axis=2, keepdims=True), [1.0] * members, labels)


@pytest.fixture(scope="module")
def cascaded(tiny_bundle: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a cascade that was fitted by the command."""
    folder = tmp_path_factory.mktemp("cascaded") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    assert cascade.main([str(folder), "--data", str(rows_file), "--loss", "1", "--auprc-loss", "5"]) == 0
    return folder


@pytest.mark.parametrize("members", [2, 3, 4])
def test_thresholds_keep_to_the_loss_and_stop_many_rows(members: int) -> None:
    rows = 4000 // members**2 * 2
    votes = noisy_votes(rows, members)
    halves = np.arange(rows) % 2 == 0
    thresholds, crossed = fit(votes, halves, np.array([0.5, 2.0]), np.arange(1.0, members + 1))
    assert len(thresholds) == members - 1
    everyone = micro_f1(votes.labels, votes.stages[-1].argmax(axis=1))
    assert everyone - micro_f1(votes.labels, crossed.argmax(axis=1)) <= 0.5
    probabilities, voted = votes.stopped(thresholds)
    assert everyone - micro_f1(votes.labels, probabilities.argmax(axis=1)) <= 0.5
    assert np.mean(voted < members) > 0.2


def test_rows_stop_where_it_saves_most() -> None:
    votes, halves = noisy_votes(600, 3), np.arange(600) % 2 == 0
    early, _ = fit(votes, halves, np.array([0.5, 2.0]), np.array([1.0, 10.0, 11.0]))
    late, _ = fit(votes, halves, np.array([0.5, 2.0]), np.array([1.0, 2.0, 11.0]))
    saved_early, saved_late = (np.mean(votes.stopped(thresholds)[1] == 1) for thresholds in (early, late))
    assert saved_early >= saved_late
    costs = np.array([1.0, 2.0, 11.0])
    assert votes.cost(late, costs) <= votes.cost(early, costs)


def test_where_nothing_may_be_lost_every_member_votes() -> None:
    votes = noisy_votes(600, 2)
    thresholds, crossed = fit(votes, np.arange(600) % 2 == 0, np.full(2, -1.0), np.array([1.0, 2.0]))
    assert thresholds == [1.0]
    assert np.array_equal(crossed, votes.stages[-1])


def test_a_row_stops_at_the_first_stage_that_is_sure() -> None:
    stages = np.full((3, 2, len(RELATIONS)), 0.01)
    stages[:, 0, 4] = [0.5, 0.8, 0.9]
    stages[:, 1, 7] = [0.9, 0.2, 0.3]
    votes = Votes(stages, np.array([4, 7]))
    probabilities, voted = votes.stopped([0.85, 0.75])
    assert voted.tolist() == [2, 1]
    assert probabilities[[0, 1], [4, 7]].tolist() == [0.8, 0.9]


def test_the_command_writes_a_bundle_that_opens_verifies_and_tells(
    cascaded: Path, rows_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = Bundle.open(cascaded).manifest.cascade
    assert fitted is not None
    assert sum(fitted.shares) == pytest.approx(1)
    assert (cascaded / "cascade.svg").read_text().startswith("<svg")
    assert inspect.main([str(cascaded)]) == 0
    assert "cascade: thresholds" in capsys.readouterr().out
    assert verify.main([str(cascaded), "--data", str(rows_file)]) == 0
    assert "with_cascade" in json.loads(capsys.readouterr().out)


def test_weights_of_the_vote_can_be_changed_without_an_export(
    tiny_bundle: Path,
    rows_file: Path,
    rows: list[Row],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
    assert cascade.main([str(folder), "--data", str(rows_file), "--weights", "1,3"]) == 0
    bundle = Bundle.open(folder)
    assert [member.weight for member in bundle.manifest.members] == [1, 3]
    examples = [Example.from_row(row) for row in rows[:20]]
    votes = np.average(Lanes.load(bundle).member_probabilities(examples), axis=0, weights=[1, 3])
    for vote, answer in zip(votes, Lanes.load(bundle, cascade_caution=1.0).predict(examples), strict=True):
        assert answer.probabilities == pytest.approx(vote, abs=1e-9)
    assert (
        verify.main([str(folder), "--data", str(rows_file)]) == 0
    )  # golden rows and quality are of this vote
    capsys.readouterr()
    assert cascade.main([str(folder), "--data", str(rows_file), "--weights", "1,2,3"]) == 2
    assert "3 given for 2 members" in capsys.readouterr().err


def test_a_fit_that_fails_at_the_end_leaves_the_bundle_as_it_was(
    tiny_bundle: Path,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, _: Manifest) -> None:
        (path / "manifest.json").write_text('{"format_')
        raise OSError(errno.ENOSPC, "No space left on device", str(path / "manifest.json"))

    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("export.thresholds.write", full)
    assert cascade.main([str(folder), "--data", str(rows_file)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_rows_that_stop_have_the_vote_of_the_members_so_far_alone_and_in_any_batch(
    cascaded: Path, rows: list[Row]
) -> None:
    bundle = Bundle.open(cascaded)
    assert bundle.manifest.cascade is not None
    (threshold,) = bundle.manifest.cascade.thresholds
    lanes = Lanes.load(bundle)
    ensemble = lanes.ensemble
    examples = [Example.from_row(row) for row in rows[:200]]
    members = lanes.member_probabilities(examples)
    votes = np.average(members, axis=0, weights=[member.weight for member in bundle.manifest.members])
    together, everyone = lanes.predict(examples), Lanes.load(bundle, cascade_caution=1.0).predict(examples)
    for index, example in enumerate(examples):
        stops = members[0, index].max() >= threshold
        expected = members[0, index] if stops else votes[index]
        assert together[index].members == (1 if stops else 2)
        assert together[index].probabilities == pytest.approx(expected, abs=1e-9)
        assert everyone[index].members == 2
        assert everyone[index].probabilities == pytest.approx(votes[index], abs=1e-9)
        (alone,) = ensemble.run([ensemble.encode(example)])
        assert alone.members == together[index].members
        assert alone.probabilities == pytest.approx(together[index].probabilities, abs=1e-4)


def test_caution_raises_the_thresholds(cascaded: Path) -> None:
    bundle = Bundle.open(cascaded)
    assert bundle.manifest.cascade is not None
    (threshold,) = bundle.manifest.cascade.thresholds
    assert Ensemble.load(bundle).thresholds == (threshold,)
    assert Ensemble.load(bundle, cascade_caution=0.5).thresholds == pytest.approx(
        (threshold + (1 - threshold) / 2,)
    )
    assert Ensemble.load(bundle, cascade_caution=1.0).thresholds == ()


@pytest.mark.parametrize("precision", ["fp16", "fp16-packed", "fp16-from-int8"])
def test_in_fp16_every_member_votes_whatever_the_bundle_says(cascaded: Path, precision: str) -> None:
    manifest = Bundle.open(cascaded).manifest
    halved = [
        member.model_copy(
            update={"files": [member.files[0].model_copy(update={"device": "cuda", "precision": precision})]}
        )
        for member in manifest.members
    ]
    bundle = Bundle(cascaded, manifest.model_copy(update={"members": halved}))
    assert Ensemble.load(bundle, "cuda", provider="CPUExecutionProvider").thresholds == ()


@pytest.mark.parametrize(("caution", "members"), [(0, {1}), (1, {2})])
def test_the_server_says_how_many_voted_and_obeys_the_setting(
    cascaded: Path, rows: list[Row], caution: int, members: set[int]
) -> None:
    with running(cascaded, cascade_caution=caution) as server:
        answer = server.client.post("/relations", json={"examples": rows[:200]}).json()
        thresholds = server.client.get("/info").json()["cascade_thresholds"]
    assert {prediction["members"] for prediction in answer["predictions"]} == members
    assert bool(thresholds) is (caution == 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fitted: {**fitted, "thresholds": [0.5, 0.6]}, "one threshold after each member but the last"),
        (lambda fitted: {**fitted, "thresholds": [0.0]}, "one threshold after each member but the last"),
        (
            lambda fitted: {**fitted, "thresholds": [0.5, 0.6], "shares": [0.2, 0.3, 0.5]},
            "3 stages for 2 members",
        ),
    ],
)
def test_a_cascade_that_does_not_fit_the_members_is_refused(
    cascaded: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(cascaded, folder)
    rewrite(folder, lambda manifest: manifest.update(cascade=change(manifest["cascade"])))
    assert words in refusal(folder)
