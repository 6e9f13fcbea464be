"""Calibration: by hand, on simulated rows whose temperature and priors are known, and folded into a
checkpoint that exports as ever."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import checkpoint
from loadtest.sentences import Row
from models.encoding import EncodedBatch
from models.example import Example
from models.labels import NO_RELATION, RELATION_IDS
from models.metrics import reliability
from models.rows import read_labelled, sentence_halves
from models.voting import softmax
from training.calibrate import main
from training.model.calibration import (
    Calibration,
    ShiftOptions,
    fit,
    fit_temperature,
    negative_log_likelihood,
    reestimate_priors,
)
from training.model.member import TrainedMember


def drawn(logits: np.ndarray, seed: int) -> np.ndarray:
    """A label a row, drawn from the row's own probabilities."""
    chances = np.random.default_rng(seed).random((len(logits), 1))
    return (softmax(logits).cumsum(axis=1) < chances).sum(axis=1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    one, other = np.array_split(np.arange(len(labels)), 2)
    binned = reliability(labels[one], probabilities[one], 15) + reliability(
        labels[other], probabilities[other], 15
    )
    return binned.calibration_error


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_simulated_rows_is_found(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(scale=2, size=(20_000, 8))
    labels = drawn(logits, seed=1)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_the_fitted_temperature_is_the_likeliest_on_a_grid() -> None:
    logits = np.random.default_rng(2).normal(scale=3, size=(300, 30)).astype(np.float32)
    labels = drawn(logits / 1.7, seed=3)
    likeliest = negative_log_likelihood(softmax(logits / fit_temperature(logits, labels)), labels)
    assert all(
        likeliest <= negative_log_likelihood(softmax(logits / t), labels) + 1e-9
        for t in np.linspace(0.3, 6, 200)
    )


def test_a_model_that_is_always_right_or_always_wrong_gets_a_finite_temperature() -> None:
    logits = np.eye(4) * 5
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, np.array([1, 2, 3, 0])) == pytest.approx(20, rel=1e-3)


def test_errors_by_hand() -> None:
    # Confidences 0.9, 0.9 (bin 13), 0.6 (bin 9): one of two right at 0.9, right at 0.6: (2 · |0.5 - 0.9| + |1
    # - 0.6|) / 3
    probabilities, labels = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]), np.array([0, 1, 1])
    assert calibration_error(probabilities, labels) == pytest.approx(0.4)
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(-np.log([0.9, 0.1, 0.6]).mean())
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0, "a confidence of 1 has a bin"
    assert np.isfinite(negative_log_likelihood(np.eye(2), np.array([1, 0])))


def test_priors_by_hand() -> None:
    # Three rows at (0.8, 0.2) and one at (0.2, 0.8), learned from equal priors: the likelihood 3 ln(0.4 + 1.2
    # π) + ln(1.6 - 1.2 π) is highest where 3 (1.6 - 1.2 π) = 0.4 + 1.2 π, at π = 11/12.
    probabilities = np.array([[0.8, 0.2]] * 3 + [[0.2, 0.8]])
    assert reestimate_priors(probabilities, np.array([0.5, 0.5])) == pytest.approx(
        [11 / 12, 1 / 12], abs=1e-4
    )


@pytest.mark.parametrize("target", [[0.3, 0.5, 0.2], [0.6, 0.3, 0.1], [0.05, 0.15, 0.8]])
def test_the_priors_of_simulated_rows_are_found_without_labels(target: list[float]) -> None:
    """Three Gaussian classes: a model of rows with one prior sees rows with another."""
    priors, centres = np.array([0.3, 0.5, 0.2]), np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    generator = np.random.default_rng(4)
    labels = generator.choice(3, size=20_000, p=target)
    points = centres[labels] + generator.normal(size=(20_000, 2))
    logits = np.log(priors) - ((points[:, None] - centres) ** 2).sum(axis=2) / 2
    estimated = reestimate_priors(softmax(logits), priors)
    assert estimated == pytest.approx(target, abs=0.02)
    shifted = softmax(logits + np.log(estimated / priors))
    assert shifted.mean(axis=0) == pytest.approx(target, abs=0.02)
    assert calibration_error(shifted, labels) < 0.02
    assert negative_log_likelihood(shifted, labels) <= negative_log_likelihood(softmax(logits), labels) + 1e-3


@pytest.mark.parametrize("method", ["em", "labels"])
def test_the_whole_shift_restores_rows_with_twice_the_share_of_no_relation(method: str) -> None:
    """Logits of a model that saw 30 % no_relation, on rows of which 60 % are."""
    generator = np.random.default_rng(5)
    labels = np.where(generator.random(20_000) < 0.6, 0, generator.integers(1, 30, 20_000))
    logits = generator.normal(size=(20_000, 30))
    # Gaussian classes 3 apart: log-likelihoods 3 x, up to what all classes share
    logits[np.arange(20_000), labels] += 3
    logits *= 3
    learned = logits + np.log([0.3] + [0.7 / 29] * 29)
    true = np.log(np.array([0.6, 0.4]) / np.array([0.3, 0.7]))
    calibration = fit(learned, labels, ShiftOptions(method, train_share=0.3, strength=1.0))  # type: ignore[arg-type]
    assert calibration.shift[0] == pytest.approx(true[0] - true[1], abs=0.1)
    assert not calibration.shift[1:].any()
    half = fit(learned, labels, ShiftOptions(method, train_share=0.3, strength=0.5))  # type: ignore[arg-type]
    assert half.shift[0] == pytest.approx(calibration.shift[0] / 2)


def test_a_calibrated_checkpoint_gives_the_calibrated_logits_and_loads_for_export(
    checkpoints: list[Path],
    rows: list[Row],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, options = tmp_path / "calibrated", ["--data", str(rows_file), "--prior-shift", "labels"]
    train = tmp_path / "train.jsonl"
    # the same for all that
    spaced = [{**row, "sentence": f"{row['sentence']} "} for row in rows[:100] if row["label"] != NO_RELATION]
    train.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in spaced))
    known = {row["sentence"] for row in rows[:100] if row["label"] != NO_RELATION}
    assert main([str(checkpoints[1]), *options, "--output", str(output), "--train", str(train)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((output / "calibration.json").read_text(encoding="utf-8"))
    assert summary["rows"] == sum(row["sentence"] not in known for row in rows), "no row that was trained on"
    assert summary["no_relation_shift"] > 0
    assert summary["before"].keys() == summary["after"].keys() == summary["cross_fitted"].keys()
    left = {path.name for path in checkpoints[1].iterdir()} - {path.name for path in output.iterdir()}
    of_the_uncalibrated = {"metrics.json", "predictions.npz", "epochs.jsonl", "curves.svg", "confusion.svg"}
    assert left == {"checkpoints", "report.html", *of_the_uncalibrated}
    examples = [Example.from_row(row) for row in rows[:50]]
    shift = np.zeros(30)
    shift[RELATION_IDS[NO_RELATION]] = summary["no_relation_shift"]
    expected = Calibration(summary["temperature"], shift)(TrainedMember.load(checkpoints[1]).logits(examples))
    loaded = checkpoint.load(output)
    for example, logits in zip(examples, expected, strict=True):
        batch = EncodedBatch.collate([loaded.encoder.encode(example)], pad_token_id=1)
        assert loaded.logits(batch)[0] == pytest.approx(logits, abs=1e-4)
    assert main([str(output), *options, "--output", str(tmp_path / "twice"), "--train", str(train)]) == 2
    assert "calibrated already" in capsys.readouterr().err


@pytest.mark.parametrize("forced", [False, True])
def test_a_calibration_that_makes_a_member_worse_is_not_written(
    checkpoints: list[Path],
    rows: list[Row],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    forced: bool,
) -> None:
    """A weak member: of the rows of --data, more than half have the label of another row. The target rows all
    have no relation. So the whole shift leaves hardly a relation."""
    data, target, other = (tmp_path / f"{name}.jsonl" for name in ("data", "target", "other"))
    drawn = np.random.default_rng(1).permutation(len(rows))
    weak = [
        {**row, "label": rows[drawn[number]]["label"]} if number % 5 < 3 else row
        for number, row in enumerate(rows)
    ]
    none = [row for row in rows if row["label"] == NO_RELATION]
    seen = [{**rows[0], "sentence": str(rows[0]["sentence"]) + " 끝."}]
    for path, kept in ((data, weak), (target, none), (other, seen)):
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    output = tmp_path / "calibrated"
    arguments = [str(checkpoints[1]), "--data", str(data), "--output", str(output), "--train", str(other)]
    arguments += ["--prior-shift", "em", "--target", str(target), "--strength", "1"]
    assert main([*arguments, *["--even-if-worse"][: int(forced)]]) == (0 if forced else 2)
    assert output.exists() == forced
    captured = capsys.readouterr()
    if forced:
        summary = json.loads(captured.out.splitlines()[-1])
        assert summary["cross_fitted"]["micro_f1"] < summary["before"]["micro_f1"]
    else:
        line = captured.err.splitlines()[-1]
        assert line.startswith("training.calibrate: cross-fitted, ")
        assert "micro-F1 falls from" in line
        assert "--even-if-worse" in line


def test_target_rows_need_no_labels(
    checkpoints: list[Path],
    rows: list[Row],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "target.jsonl"
    unlabelled = [
        {key: value for key, value in row.items() if key != "label"}
        for row in rows
        if row["label"] == NO_RELATION
    ]
    target.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in unlabelled), encoding="utf-8"
    )
    other = tmp_path / "other.jsonl"
    other.write_text(
        json.dumps({**rows[0], "sentence": str(rows[0]["sentence"]) + " 끝."}) + "\n", encoding="utf-8"
    )
    arguments = [str(checkpoints[1]), "--data", str(rows_file), "--output", str(tmp_path / "calibrated")]
    assert (
        main(
            [
                *arguments,
                "--train",
                str(other),
                "--prior-shift",
                "em",
                "--target",
                str(target),
                "--strength",
                "1",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["no_relation_shift"] > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "checkpoint nowhere: "),
        (["{encoder}"], "not a RelationClassifier"),
        (["{checkpoint}", "--data", "nothing.jsonl"], "nothing.jsonl"),
        (["{checkpoint}", "--output", "{rows}"], "exists already"),
        (["{checkpoint}", "--prior-shift", "em"], "--train is required"),
        (["{checkpoint}", "--target", "{rows}"], "--target"),
        (["{checkpoint}", "--train", "{rows}"], "is in --train; name rows"),
        (["{checkpoint}", "--data", "{single}"], "too few sentences"),
    ],
)
def test_what_cannot_be_calibrated_gets_one_plain_line(
    checkpoints: list[Path],
    encoder_folder: Path,
    rows: list[Row],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    single = tmp_path / "single.jsonl"
    single.write_text(json.dumps(rows[0]) + "\n")
    filled = [
        argument.format(checkpoint=checkpoints[1], encoder=encoder_folder, rows=rows_file, single=single)
        for argument in arguments
    ]
    status = None
    with suppress(SystemExit):
        status = main(
            [filled[0], "--data", str(rows_file), "--output", str(tmp_path / "calibrated"), *filled[1:]]
        )
    assert status in (2, None)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "calibrated").exists()


def test_halves_keep_a_sentence_together(rows_file: Path) -> None:
    rows = read_labelled(rows_file)
    halves = sentence_halves(rows)
    assert 0.4 < halves.mean() < 0.6
    sides: dict[str, set[bool]] = {}
    for row, side in zip(rows, halves.tolist(), strict=True):
        sides.setdefault(row.example.sentence, set()).add(side)
    assert all(len(seen) == 1 for seen in sides.values())
    spaced = [replace(row, example=replace(row.example, sentence=row.example.sentence + " ")) for row in rows]
    assert (sentence_halves(spaced) == halves).all(), "space around it makes no other sentence"
