"""Export a fine-tuned ensemble to a bundle, and prove that it is the same ensemble.

    python -m export runs/default/member-6 runs/default/member-12 --output bundles/mine --data validation.jsonl

Every graph answers the rows of --data beside its PyTorch model. Below 99.9 % (fp32) or 96 % (int8) label agreement, or with more
than 0.5 micro-F1 lost, no bundle is written.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from export.checkpoint import InvalidCheckpoint, load
from export.convert import ConversionFailed
from export.evaluate import evaluate
from export.member import export_member
from export.parity import ParityFailed
from models import bundle
from models.bundle import Bundle, Golden, GoldenRow, Manifest, Precision, Source
from models.ensemble import Ensemble
from models.example import Example, InvalidExample
from models.labels import RELATIONS
from models.lanes import Split, available_cores
from models.restriction import learn_restriction
from models.rows import InvalidRows, LabelledExample, read_labelled

GOLDEN_TOLERANCE = {"fp32": 1e-3, "int8": 2e-2}
GOLDEN_ROWS = Path(__file__).with_name("golden.jsonl")


class InvalidRequest(ValueError):
    """The command line asks for something impossible; the message names the option."""


def export_ensemble(
    checkpoints: list[Path],
    output: Path,
    data: Path,
    calibration: Path | None = None,
    precisions: tuple[Precision, ...] = ("int8",),
    weights: list[float] | None = None,
    name: str | None = None,
    source: Source | None = None,
    notices: tuple[Path, ...] = (),
    type_restriction: Path | None = None,
) -> Manifest:
    """Convert, fuse, quantise, prove and write one bundle.

    Args:
        data: labelled rows that the proof runs over.
        calibration: labelled rows that int8's activation scales are fitted on; rows of `data` by default.
        precisions: what to ship for the CPU; fp32 is converted and proven in any case.
        type_restriction: labelled rows; the ensemble then gives a pair of entity types only relations that it has in them.

    Raises:
        InvalidCheckpoint, InvalidRows, InvalidRequest: something given cannot be used.
        ConversionFailed, ParityFailed: the export is not the ensemble that was trained. Nothing has been written.
    """
    if output.exists():
        raise InvalidRequest(f"--output {output}: exists already")
    if weights is not None and len(weights) != len(checkpoints):
        raise InvalidRequest(f"--weights: {len(weights)} given for {len(checkpoints)} checkpoints")
    for notice in notices:
        if not notice.is_file():
            raise InvalidRequest(f"--notice {notice}: no such file")
    rows = read_labelled(data)
    calibration_rows = read_labelled(calibration) if calibration else rows
    restriction = learn_restriction(read_labelled(type_restriction)) if type_restriction else None
    members = sorted(zip(map(load, checkpoints), weights or [1.0] * len(checkpoints), strict=True), key=lambda pair: pair[0].cost)
    if len(windows := {checkpoint.window for checkpoint, _ in members}) > 1:
        raise InvalidRequest(f"the checkpoints' windows differ ({', '.join(map(str, sorted(windows)))} tokens)")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        folder = Path(scratch) / "bundle"
        (folder / "tokenizers").mkdir(parents=True)
        manifest = Manifest(
            format_version=bundle.FORMAT_VERSION,
            name=name or output.name,
            labels=list(RELATIONS),
            max_length=members[0][0].window,
            voting="weighted_mean_probability",
            type_restriction=restriction,
            members=[
                export_member(checkpoint, weight, number, folder, rows, calibration_rows, precisions)
                for number, (checkpoint, weight) in enumerate(members, start=1)
            ],
            golden={},
            quality={},
            source=source or Source(encoder="not stated", data=data.name, licences=[]),
        )
        for notice in notices:
            shutil.copy(notice, folder / notice.name)
        manifest = _with_golden_and_quality(folder, manifest, data, rows, precisions)
        bundle.write(folder, manifest)
        Ensemble.load(Bundle.open(folder)).prove()
        folder.rename(output)
    return manifest


def _with_golden_and_quality(
    folder: Path, manifest: Manifest, data: Path, rows: list[LabelledExample], precisions: tuple[Precision, ...]
) -> Manifest:
    """The manifest with what the ensemble as a whole answers: it is served from the folder to find out."""
    ensemble = Ensemble(Bundle(folder, manifest), "cpu", Split(available_cores(), threads=1))
    golden_rows = [json.loads(line) for line in GOLDEN_ROWS.read_text(encoding="utf-8").splitlines()]
    answers = [ensemble.run([ensemble.encode(Example.from_row(row))])[0] for row in golden_rows]
    golden = Golden(
        tolerance=GOLDEN_TOLERANCE["int8" if "int8" in precisions else "fp32"],
        rows=[
            GoldenRow(example=row, relation=answer.relation, probabilities=answer.probabilities.tolist())
            for row, answer in zip(golden_rows, answers, strict=True)
        ],
    )
    quality = evaluate(ensemble, rows, data)
    return manifest.model_copy(update={"golden": {"cpu": golden}, "quality": {"cpu": quality}})


def _precisions(text: str) -> tuple[Precision, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= {"fp32", "int8"}:
        raise argparse.ArgumentTypeError(f"fp32, int8 or both are required, not {text!r}")
    return names  # type: ignore[return-value]


def _weights(text: str) -> list[float]:
    weights = [float(part) for part in text.split(",")]
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise argparse.ArgumentTypeError("weights are positive numbers")
    return weights


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, prog="python -m export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="folder of a fine-tuned member")
    parser.add_argument("--output", type=Path, required=True, metavar="BUNDLE", help="folder to write; must not exist")
    parser.add_argument("--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled KLUE-RE rows for the proof")
    parser.add_argument("--calibration", type=Path, metavar="ROWS.jsonl", help="rows to fit int8's scales on (default: --data)")
    parser.add_argument("--precision", type=_precisions, default=("int8",), help="fp32, int8 or int8,fp32 (default: int8)")
    parser.add_argument("--weights", type=_weights, metavar="W,W,…", help="the members' weights in the vote (default: equal)")
    parser.add_argument("--name", help="the bundle's name (default: the folder's)")
    parser.add_argument("--source", type=Path, metavar="JSON", help="encoder, data and licences to state in the manifest")
    parser.add_argument("--notice", type=Path, action="append", default=[], metavar="FILE", help="file to put into the bundle")
    parser.add_argument("--type-restriction", type=Path, metavar="ROWS.jsonl", help="allow entity types only the relations of these rows")
    arguments = parser.parse_args(argv)
    try:
        source = Source.model_validate_json(arguments.source.read_bytes()) if arguments.source else None
        manifest = export_ensemble(
            arguments.checkpoints,
            arguments.output,
            arguments.data,
            arguments.calibration,
            arguments.precision,
            arguments.weights,
            arguments.name,
            source,
            tuple(arguments.notice),
            arguments.type_restriction,
        )
    except ValidationError as error:
        print(f"export: --source {arguments.source}: {error.errors()[0]['msg']}", file=sys.stderr)
        return 2
    except (InvalidCheckpoint, InvalidRows, InvalidExample, InvalidRequest, ConversionFailed, ParityFailed, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"bundle": str(arguments.output), **manifest.quality["cpu"].model_dump()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
