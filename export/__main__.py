"""Export a fine-tuned ensemble to a bundle, and prove that it is the same ensemble.

    python -m export runs/default/member-6 runs/default/member-12 --output bundles/mine --data validation.jsonl
    python -m export electra roberta --markers typed_punctuation,entity_tokens --weights fit --weights-data dev.jsonl --output …

A checkpoint is one of training's own or a Hugging Face folder of a BERT, RoBERTa, XLM-R or ELECTRA sequence
classifier. Every graph answers the rows of --data beside its PyTorch model. Below 99.9 % (fp32), 99.5 %
(fp16) or 96 % (int8) label agreement, or with more than 0.5 micro-F1 lost, no bundle is written.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import transformers
from pydantic import ValidationError

from engine.lanes import Lanes
from export.checkpoint import InvalidCheckpoint, load
from export.convert import ConversionFailed
from export.evaluate import check_window, read_rows
from export.member import export_member
from export.parity import ParityFailed
from export.proof import at_work, has_gpu, with_golden_and_quality
from models import bundle
from models.bundle import Bundle, Manifest, Source
from models.encoding import MARKER_STYLES
from models.ensemble import DeviceUnavailable
from models.example import InvalidExample
from models.labels import RELATIONS
from models.precision import Precision
from models.restriction import learn_restriction
from models.rows import InvalidRows, LabelledExample, label_ids, read_labelled
from models.voting import fit_weights

GOLDEN_ROWS = Path(__file__).with_name("golden.jsonl")


class InvalidRequest(ValueError):
    """The command line asks for something impossible; the message names the option."""


def export_ensemble(
    checkpoints: list[Path],
    output: Path,
    data: Path,
    calibration: Path | None = None,
    precisions: tuple[Precision, ...] | Literal["auto"] = ("int8",),
    weights: list[float] | Literal["fit"] | None = None,
    weights_data: Path | None = None,
    markers: list[str] | None = None,
    name: str | None = None,
    source: Source | None = None,
    notices: tuple[Path, ...] = (),
    type_restriction: Path | None = None,
) -> Manifest:
    """Convert, fuse, quantise, prove and write one bundle.

    Args:
        data: labelled rows that the proof runs over.
        calibration: labelled rows that int8's activation scales are fitted on; rows of `data` by default.
        precisions: the graphs to ship; fp32 is converted and proven in any case. auto: for each device the
            fastest that passes its gates.
        weights: of the members in the vote, in the order of the checkpoints; equal by default.
        weights_data: labelled rows that weights are fitted on, where they are to be; rows of `data` by
            default.
        markers: the marker style of checkpoints whose `config.json` names none: one for all of them, or one
            for each.
        type_restriction: labelled rows; the ensemble then gives a pair of entity types only relations that it
            has in them.

    Raises:
        InvalidCheckpoint, InvalidRows, InvalidRequest: something given cannot be used.
        ConversionFailed, ParityFailed: the export is not the ensemble that was trained. Nothing has been
            written.
    """
    if output.exists():
        raise InvalidRequest(f"--output {output}: exists already")
    given = weights if isinstance(weights, list) else [1.0] * len(checkpoints)
    if len(given) != len(checkpoints):
        raise InvalidRequest(f"--weights: {len(given)} given for {len(checkpoints)} checkpoints")
    if weights_data is not None and weights != "fit":
        raise InvalidRequest("--weights-data: only `--weights fit` has use for it")
    styles = (markers or [None]) * (1 if markers and len(markers) > 1 else len(checkpoints))
    if len(styles) != len(checkpoints):
        raise InvalidRequest(f"--markers: {len(styles)} given for {len(checkpoints)} checkpoints")
    if "fp16-from-int8" in precisions and "int8" not in precisions:
        raise InvalidRequest(
            "--precision fp16-from-int8: it is made of int8's weights and shares them: int8,fp16-from-int8 is required"
        )
    if "fp16-packed" in precisions and not has_gpu():
        raise InvalidRequest(
            "--precision fp16-packed: there is no packing mode for CPUs, so it can only be proven on a machine with a GPU"
        )
    for notice in notices:
        if not notice.is_file():
            raise InvalidRequest(f"--notice {notice}: no such file")
        if [other.name for other in notices].count(notice.name) > 1:
            raise InvalidRequest(f"--notice {notice}: another one is called {notice.name} too")
        if notice.name in (bundle.MANIFEST, bundle.SUMS, "members", "tokenizers"):
            raise InvalidRequest(f"--notice {notice}: {notice.name} is a name that the bundle needs itself")
    rows = read_rows(data)
    calibration_rows = read_labelled(calibration) if calibration else rows
    weights_rows = read_labelled(weights_data) if weights_data else rows
    restriction = learn_restriction(read_labelled(type_restriction)) if type_restriction else None
    loaded = [load(folder, style) for folder, style in zip(checkpoints, styles, strict=True)]
    window = min(checkpoint.window for checkpoint in loaded)
    for checkpoint in loaded:
        encode = checkpoint.with_window(window).encoder.encode
        for path, read in {
            data: rows,
            calibration or data: calibration_rows,
            weights_data or data: weights_rows,
        }.items():
            check_window(path, read, encode)
    members = sorted(zip(loaded, given, strict=True), key=lambda pair: pair[0].cost)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        folder = Path(scratch) / "bundle"
        (folder / "tokenizers").mkdir(parents=True)
        manifest = Manifest(
            format_version=bundle.FORMAT_VERSION,
            name=name or output.name,
            labels=list(RELATIONS),
            max_length=window,
            voting="weighted_mean_probability",
            type_restriction=restriction,
            members=[
                export_member(
                    checkpoint.with_window(window), weight, number, folder, rows, calibration_rows, precisions
                )
                for number, (checkpoint, weight) in enumerate(members, start=1)
            ],
            golden={},
            quality={},
            source=source or Source(encoder="not stated", data=data.name, licences=[]),
        )
        for notice in notices:
            shutil.copy(notice, folder / notice.name)
        if weights == "fit":
            manifest = _with_fitted_weights(folder, manifest, weights_rows)
        examples = [json.loads(line) for line in GOLDEN_ROWS.read_text(encoding="utf-8").splitlines()]
        manifest = with_golden_and_quality(
            folder, manifest, Bundle(folder, manifest).devices(), examples, data, rows
        )
        bundle.write(folder, manifest)
        written = Bundle.open(folder)
        for device in written.devices():
            if device == "cpu" or has_gpu():
                Lanes.load(written, device).ensemble.prove()
        folder.rename(output)
    return manifest


def _with_fitted_weights(folder: Path, manifest: Manifest, rows: list[LabelledExample]) -> Manifest:
    """The manifest with the weights under which these rows are likeliest."""
    bundle = Bundle(folder, manifest)
    lanes = at_work(bundle, bundle.devices()[0])
    weights = fit_weights(lanes.member_probabilities([row.example for row in rows]), label_ids(rows))
    members = [
        member.model_copy(update={"weight": weight})
        for member, weight in zip(manifest.members, weights.tolist(), strict=True)
    ]
    return manifest.model_copy(update={"members": members})


def _precisions(text: str) -> tuple[Precision, ...] | Literal["auto"]:
    if text == "auto":
        return "auto"
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(get_args(Precision)):
        raise argparse.ArgumentTypeError(
            f"auto or some of {', '.join(get_args(Precision))} are required, not {text!r}"
        )
    return names  # type: ignore[return-value]


def _weights(text: str) -> list[float] | Literal["fit"]:
    if text == "fit":
        return "fit"
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers or `fit` are required, not {text!r}") from None
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise argparse.ArgumentTypeError("weights are positive numbers")
    return weights


def _markers(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in MARKER_STYLES:
            raise argparse.ArgumentTypeError(f"the styles are {', '.join(MARKER_STYLES)}, not {name!r}")
    return names


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="folder of a fine-tuned member"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="BUNDLE", help="folder to write; must not exist"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled KLUE-RE rows for the proof"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="ROWS.jsonl",
        help="rows to fit int8's scales on (default: --data)",
    )
    parser.add_argument(
        "--precision",
        type=_precisions,
        default=("int8",),
        metavar="P,P,…",
        help="for CPUs int8, fp32; for CUDA fp16, fp16-packed (without padding), fp16-from-int8 (int8's weights, no second copy of them); "
        "auto: for each device the fastest that is proven here (default: int8)",
    )
    parser.add_argument(
        "--markers",
        type=_markers,
        metavar="STYLE,…",
        help=f"how checkpoints mark entities whose config.json does not say it, one for all or one for each: {', '.join(MARKER_STYLES)}",
    )
    parser.add_argument(
        "--weights",
        type=_weights,
        metavar="W,W,…|fit",
        help="the members' weights in the vote (default: equal); fit: those under which the rows of --weights-data are likeliest",
    )
    parser.add_argument(
        "--weights-data",
        type=Path,
        metavar="ROWS.jsonl",
        help="rows to fit the weights on (default: --data, on which the reported figures are then optimistic)",
    )
    parser.add_argument("--name", help="the bundle's name (default: the folder's)")
    parser.add_argument(
        "--source", type=Path, metavar="JSON", help="encoder, data and licences to state in the manifest"
    )
    parser.add_argument(
        "--notice", type=Path, action="append", default=[], metavar="FILE", help="file to put into the bundle"
    )
    parser.add_argument(
        "--type-restriction",
        type=Path,
        metavar="ROWS.jsonl",
        help="allow entity types only the relations of these rows",
    )
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()  # what it warns of is refused
    try:
        source = Source.model_validate_json(arguments.source.read_bytes()) if arguments.source else None
        manifest = export_ensemble(
            arguments.checkpoints,
            arguments.output,
            arguments.data,
            arguments.calibration,
            arguments.precision,
            arguments.weights,
            arguments.weights_data,
            arguments.markers,
            arguments.name,
            source,
            tuple(arguments.notice),
            arguments.type_restriction,
        )
    except ValidationError as error:
        print(f"export: --source {arguments.source}: {error.errors()[0]['msg']}", file=sys.stderr)
        return 2
    except (
        InvalidCheckpoint,
        InvalidRows,
        InvalidExample,
        InvalidRequest,
        ConversionFailed,
        ParityFailed,
        DeviceUnavailable,
        OSError,
    ) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"bundle": str(arguments.output), **next(iter(manifest.quality.values())).model_dump()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
