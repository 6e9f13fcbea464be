"""Checkpoints into a bundle: every member is exported and proven, then the ensemble as a whole."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.lanes import Lanes
from export.checkpoint import Checkpoint, check_rows, load
from export.errors import InvalidOptions
from export.evaluate import read_rows
from export.member import ProofRows, exits_of, export_members
from export.options import ExportOptions
from export.proof import at_work, golden_examples, has_gpu, with_golden_and_quality
from models import bundle
from models.bundle import Bundle, Manifest, Member, Source
from models.labels import RELATIONS
from models.metrics import klue_metrics
from models.precision import PRECISIONS
from models.restriction import TypeRestriction, learn_restriction
from models.rows import InvalidRows, LabelledExample, check_window, label_ids, read_labelled, sentence_halves
from models.voting import cross_fitted, fit_stage_weights, weighted_mean_probability


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The files of an export, read and checked.

    Attributes:
        checkpoints: with the weights of their exits, the cheapest first, all with the same window.
        notes: what a person should know about the checkpoints, one line each.
    """

    checkpoints: list[tuple[Checkpoint, list[float]]]
    data: list[LabelledExample]
    rows: ProofRows
    weights_rows: list[LabelledExample]
    restriction: TypeRestriction | None
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written, and what a person should know about its checkpoints."""

    manifest: Manifest
    notes: list[str]


def export_ensemble(options: ExportOptions) -> Exported:
    """Write one bundle.

    1. Read the rows and load the checkpoints. Refuse a row that does not fit into the window, and a tokenizer
       or a label order that does not fit the rows.
    2. Convert, fuse, quantise and prove every checkpoint, the cheapest first. Each of its exits becomes a
       member.
    3. Fit the weights of the vote, if the options ask for it.
    4. Record golden rows and quality of the ensemble on each device.
    5. Write the manifest, open the bundle and prove it.
    6. Rename the finished folder to `options.output`.

    Raises:
        InvalidOptions, InvalidCheckpoint, InvalidRows: an input cannot be used.
        ConversionFailed, ParityFailed: the export is not the ensemble that was trained.
        After any error, nothing is written.
    """
    options.check()
    for precision in options.precisions if options.precisions != "auto" else ():
        if not PRECISIONS[precision].runs_on_cpu and not has_gpu():
            raise InvalidOptions(f"--precision {precision}: only a machine with a GPU can prove it")
    inputs = _read(options)
    output = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        folder = Path(scratch) / "bundle"
        (folder / "tokenizers").mkdir(parents=True)
        for notice in options.notices:
            shutil.copy(notice, folder / notice.name)
        members: list[Member] = []
        for checkpoint, weights in inputs.checkpoints:
            exits = exits_of(checkpoint, len(members) + 1, weights)
            members += export_members(checkpoint, exits, folder, inputs.rows, options.precisions)
        manifest = _manifest(options, inputs, members)
        if options.weights == "fit":
            manifest = _with_fitted_weights(folder, manifest, inputs.weights_rows)
        devices = Bundle(folder, manifest).devices()
        manifest = with_golden_and_quality(
            folder, manifest, devices, golden_examples(), options.data, inputs.data
        )
        bundle.write(folder, manifest)
        written = Bundle.open(folder)
        for device in written.devices():
            if device == "cpu" or has_gpu():
                Lanes.load(written, device).ensemble.prove()
        folder.rename(output)
    return Exported(manifest, inputs.notes)


def _read(options: ExportOptions) -> _Inputs:
    rows = read_rows(options.data)
    proof_rows = _proof_rows(options, rows)
    weights_rows = read_labelled(options.weights_data) if options.weights_data else rows
    restriction = None
    if options.type_restriction:
        restriction = learn_restriction(read_labelled(options.type_restriction))
    loaded = [
        load(folder, markers, order)
        for folder, markers, order in zip(
            options.checkpoints, options.member_markers, options.member_orders, strict=True
        )
    ]
    window = min(checkpoint.window for checkpoint in loaded)
    loaded = [checkpoint.with_window(window) for checkpoint in loaded]
    files = {
        options.data: rows,
        options.calibration or options.data: proof_rows.calibration if options.calibration else rows,
        options.weights_data or options.data: weights_rows,
    }
    for checkpoint in loaded:
        for path, read in files.items():
            check_window(path, read, checkpoint.encoder.encode)
    notes = [note for checkpoint in loaded for note in check_rows(checkpoint, rows)]
    for note in notes:
        print(f"export: {note}", file=sys.stderr)
    pairs = zip(loaded, _weights_of_exits(options.given_weights, loaded), strict=True)
    cheapest_first = sorted(pairs, key=lambda pair: pair[0].cost)
    return _Inputs(cheapest_first, rows, proof_rows, weights_rows, restriction, notes)


def _proof_rows(options: ExportOptions, rows: list[LabelledExample]) -> ProofRows:
    """The rows of the proof and of int8's scales: without --calibration, two halves of the sentences.

    A proof on the rows that the scales were fitted on would be too good.

    Raises:
        InvalidOptions: the rows have too few sentences for two halves.
        InvalidRows: --calibration cannot be used.
    """
    if options.calibration:
        return ProofRows(rows, read_labelled(options.calibration))
    if options.precisions != "auto" and "int8" not in options.precisions:
        return ProofRows(rows, [])
    try:
        halves = sentence_halves(rows)
    except InvalidRows as error:
        raise InvalidOptions(
            f"--data: {error}; or name the rows of int8's scales with --calibration"
        ) from None
    proof, scales = (
        [row for row, half in zip(rows, halves, strict=True) if half == of] for of in (True, False)
    )
    return ProofRows(proof, scales)


def _weights_of_exits(given: Sequence[float], checkpoints: Sequence[Checkpoint]) -> list[list[float]]:
    """The weights of each checkpoint's exits. A weight that is given for a checkpoint is that of each exit.

    Raises:
        InvalidOptions: there are neither as many weights as checkpoints nor as many as exits.
    """
    exits = [len(checkpoint.exits) for checkpoint in checkpoints]
    if len(given) == len(checkpoints):
        return [[weight] * count for weight, count in zip(given, exits, strict=True)]
    if len(given) != sum(exits):
        of_exits = f" with {sum(exits)} exits" if sum(exits) > len(checkpoints) else ""
        raise InvalidOptions(f"--weights: {len(given)} given for {len(checkpoints)} checkpoints{of_exits}")
    weights = iter(given)
    return [[next(weights) for _ in range(count)] for count in exits]


def _manifest(options: ExportOptions, inputs: _Inputs, members: list[Member]) -> Manifest:
    return Manifest(
        format_version=bundle.FORMAT_VERSION,
        name=options.name or options.output.name,
        labels=list(RELATIONS),
        max_length=inputs.checkpoints[0][0].window,
        voting="weighted_mean_probability",
        type_restriction=inputs.restriction,
        members=members,
        golden={},
        quality={},
        source=options.source or Source(encoder="not stated", data=options.data.name, licences=[]),
    )


def _with_fitted_weights(folder: Path, manifest: Manifest, rows: list[LabelledExample]) -> Manifest:
    """The manifest with the weights that make the labels of these rows most likely.

    It says on stderr what each choice of weights costs in micro-F1 and AUPRC.
    """
    unweighted = Bundle(folder, manifest)
    lanes = at_work(unweighted, unweighted.devices()[0])
    labels, votes = label_ids(rows), lanes.member_probabilities([row.example for row in rows])
    weights = fit_stage_weights(votes, labels)
    shown = dict(zip((member.name for member in manifest.members), votes, strict=True)) | {
        "equal weights": votes.mean(axis=0),
        "fitted weights": weighted_mean_probability(votes, weights),
        "fitted on half of the sentences, measured on the others": cross_fitted(
            votes, labels, sentence_halves(rows), fit_stage_weights
        ),
    }
    for name, probabilities in shown.items():
        figures = klue_metrics(labels, probabilities)
        print(
            f"export: {name}: micro-F1 {figures['micro_f1']:.2f}, AUPRC {figures['auprc']:.2f}",
            file=sys.stderr,
        )
    members = [
        member.model_copy(update={"weight": weight})
        for member, weight in zip(manifest.members, weights.tolist(), strict=True)
    ]
    return manifest.model_copy(update={"members": members})
