"""Score a file of KLUE-RE rows: python -m scoring INPUT OUTPUT

    python -m scoring rows.jsonl predictions.jsonl
    python -m scoring test_data.csv submission.csv --resume
    zcat rows.json.gz | python -m scoring - - > predictions.jsonl

Exit status: 0 when every row was scored or is among the rejects; 1 when the input breaks off (what came
before is scored), a row is bad under --strict, or the engine fails; 2 for an error of the user's, in one
plain line; 130 on Ctrl-C.
"""

import argparse
import hashlib
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from engine.devices import choose_device
from engine.settings import DEFAULT_BUNDLE, EngineSettings
from engine.tuning import TunedEnsemble, load
from models.bundle import SUMS, Bundle, BundleRefused
from models.ensemble import DeviceUnavailable
from models.labels import RELATIONS
from models.precision import Device
from scoring import parquet
from scoring.compare import read_predictions
from scoring.engine import WINDOW_ROWS
from scoring.errors import Refused, Stopped
from scoring.figures import Figures, measure
from scoring.inputs import INPUT_FORMS, open_input
from scoring.journal import Journal, Paths, StandardOutput, Tally, output_paths, write_whole
from scoring.outputs import LABEL_ORDERS, OUTPUT_FORMS, Writer, choose_writer, json_lines
from scoring.progress import Progress
from scoring.report import render
from scoring.run import StrictViolation, begin, score
from scoring.sources import STANDARD, can_be_read_again, identity

TUNING_S: Final[float] = EngineSettings.model_fields["tuning_s"].default
INTERRUPTED: Final = 130


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        summary = run(arguments)
        print(
            json_lines([summary]).decode(),
            end="",
            file=sys.stderr if arguments.output == STANDARD else sys.stdout,
        )
    except (Refused, BundleRefused, DeviceUnavailable) as error:
        print(f"scoring: {error}", file=sys.stderr)
        return 2
    except Stopped as error:
        print(f"scoring: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        with suppress(OSError):
            # else Python complains once more when it leaves
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("scoring: standard output was closed before the last row", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"scoring: {error.filename or arguments.output}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("scoring: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 1 if summary["broken"] else 0


def run(arguments: argparse.Namespace, loaded: TunedEnsemble | None = None) -> dict[str, Any]:
    """Score INPUT into OUTPUT; returns the summary.

    Args:
        loaded: the bundle's ensemble, where it is loaded already.

    Raises:
        Refused, BundleRefused, DeviceUnavailable, OSError: the user's errors.
        Stopped: a bad row under --strict, or the engine failed.
    """
    check_paths(arguments.input, arguments.output, arguments.resume)
    writer = choose_writer(arguments.output, arguments.to, arguments.top_k, arguments.label_order)
    with ExitStack() as stack:
        source = stack.enter_context(open_input(arguments.input, arguments.from_))
        records = begin(source.records())
        bundle = Bundle.open(arguments.bundle)
        device = loaded.lanes.ensemble.device if loaded else choose_device(bundle, arguments.device)[0]
        sink: Journal | StandardOutput
        if arguments.output == STANDARD:
            sink = stack.enter_context(StandardOutput())
        else:
            sink = stack.enter_context(
                Journal(
                    output_paths(arguments.output), job(arguments, bundle, writer, device), arguments.resume
                )
            )
        resumed = sink.tally.rows
        began = time.monotonic()
        try:
            if not sink.complete:
                tuned = loaded or load(bundle, engine_settings(vars(arguments)))
                began = time.monotonic()
                with Progress(resumed) as progress:
                    score(source, records, tuned, writer, sink, progress, arguments.window, arguments.strict)
            figures = measure(sink.labelled, sink.tally.labelled) if sink.tally.labelled else None
            summary = _summary(arguments, bundle, sink.tally, figures, resumed, time.monotonic() - began)
            if isinstance(sink, Journal):
                _report(sink.paths, summary, figures)
                sink.publish(_to_parquet if writer.form == "parquet" else None)
        except BaseException as error:
            raise _with_what_is_left(error, sink) from None
    return summary


def engine_settings(options: Mapping[str, Any]) -> EngineSettings:
    """The settings of the engine that the options of a command ask for."""
    asked = {name: options[name] for name in ("bundle", "device", "tuning_s", "cascade_caution")}
    return EngineSettings(**asked, all_cores_for_one=False)


def check_paths(input_: str, output: str, resume: bool) -> None:
    """Refuse what would only fail when the rows are scored.

    Raises:
        Refused: INPUT is no file, OUTPUT or a file beside it is INPUT or cannot be a file, or --resume cannot
            work.
    """
    if resume and STANDARD in (input_, output):
        raise Refused("--resume needs files: standard input cannot be read twice, nor standard output be cut")
    if input_ != STANDARD and Path(input_).is_dir():
        raise Refused(f"{input_}: this is a folder; a file is required")
    if resume and Path(input_).exists() and not can_be_read_again(input_):
        raise Refused(f"{input_}: --resume needs a regular file; this one cannot be read twice")
    if output == STANDARD:
        return
    if not Path(output).name or Path(output).is_dir():
        raise Refused(f"{output}: this is a folder; the name of a file is required")
    paths = output_paths(output)
    folder = paths.output.parent
    if not folder.is_dir():
        raise Refused(f"{output}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise Refused(f"{output}: the folder {folder} cannot be written")
    for path in [Path(output), *paths.all()]:
        if path.exists() and not path.is_file():
            raise Refused(f"{path}: a file is to be written here, but something else stands there")
        if input_ != STANDARD and path.exists() and path.samefile(input_):
            raise Refused(f"{path}: this is the input; it would be overwritten")


def job(arguments: argparse.Namespace, bundle: Bundle, writer: Writer, device: Device) -> dict[str, Any]:
    """What must be the same for a run to go on with what another one left.

    Args:
        device: that the members really run on, whatever was asked for: each has graphs of its own, which
            answer a little differently.
    """
    return {
        "input": identity(arguments.input) if can_be_read_again(arguments.input) else None,
        "device": device,
        "bundle": hashlib.sha256((bundle.path / SUMS).read_bytes()).hexdigest(),
        "options": [
            arguments.from_,
            writer.form,
            writer.top_k,
            writer.label_order,
            arguments.strict,
            arguments.cascade_caution,
        ],
    }


def _summary(
    arguments: argparse.Namespace,
    bundle: Bundle,
    tally: Tally,
    figures: Figures | None,
    resumed: int,
    seconds: float,
) -> dict[str, Any]:
    to_file = arguments.output != STANDARD
    paths = output_paths(arguments.output)
    summary: dict[str, Any] = {
        "output": arguments.output,
        "bundle": bundle.manifest.name,
        "rows": tally.rows,
        "scored": tally.scored,
        "rejected": tally.rejected,
        "rejects": str(paths.rejects) if tally.rejected and to_file else None,
        "broken": tally.broken,
        "resumed_after_rows": resumed,
        "seconds": round(seconds, 2),
        "rows_per_s": round((tally.rows - resumed) / max(1e-9, seconds), 1),
        "labelled": tally.labelled,
        "strange_labels": tally.strange_labels,
    }
    if figures:
        summary |= {
            "micro_f1": figures.micro_f1,
            "auprc": figures.auprc,
            "calibration_error": figures.calibration_error,
        }
        summary |= {"report": str(paths.report) if to_file else None}
    return summary


def _report(paths: Paths, summary: dict[str, Any], figures: Figures | None) -> None:
    if figures is None:
        paths.report.unlink(missing_ok=True)  # an earlier run's
        return
    facts = {name: summary[name] for name in ("bundle", "rows", "scored", "rejected", "strange_labels")}
    write_whole(
        paths.report,
        render(f"Scores of {paths.output.name}", facts, figures).encode("utf-8", "backslashreplace"),
    )


def _to_parquet(part: Path, converted: Path) -> None:
    parquet.write(read_predictions(part, "jsonl"), converted)


def _with_what_is_left(error: BaseException, sink: Journal | StandardOutput) -> BaseException:
    """The same error; where rows are finished it says that they are kept, and where none are nothing is left
    behind."""
    if not isinstance(sink, Journal):
        return error
    if not sink.tally.rows or isinstance(error, StrictViolation):
        with suppress(OSError):
            sink.discard()
        return error
    kept = f"{sink.tally.rows:,} rows are finished and kept: --resume goes on after them"
    if isinstance(error, OSError):
        return Refused(f"{error.filename or sink.paths.output}: {error.strerror or error}; {kept}")
    if isinstance(error, KeyboardInterrupt):
        print(f"scoring: {kept}", file=sys.stderr)
    return Stopped(f"{error}; {kept}") if isinstance(error, Stopped) else error


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m scoring", __doc__ or "")
    add = parser.add_argument
    add(
        "input",
        metavar="INPUT",
        help="JSON, JSONL, competition CSV (plain, gzip or zstd) or Parquet; - for standard input",
    )
    add(
        "output",
        metavar="OUTPUT",
        help=".jsonl, .csv (also with .gz or .zst), .parquet, submission.csv; - for standard output",
    )
    add(
        "--resume",
        action="store_true",
        help="go on where an earlier run of the same job was stopped, or start",
    )
    return parser


def make_parser(prog: str, text: str) -> argparse.ArgumentParser:
    """A parser with the options of every way to score; `text` is the module's docstring."""
    description, _, rest = text.partition("\n")
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog=prog,
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default_bundle, default_device = (
        os.environ.get("KORE_BUNDLE") or DEFAULT_BUNDLE,
        os.environ.get("KORE_DEVICE") or "auto",
    )
    default_caution = os.environ.get("KORE_CASCADE_CAUTION") or "0"
    add = parser.add_argument
    add(
        "--bundle",
        type=Path,
        default=Path(default_bundle),
        help="the ensemble to score with (default: KORE_BUNDLE, bundles/default)",
    )
    add(
        "--strict", action="store_true", help="stop at the first row that cannot be scored, without an output"
    )
    add(
        "--from",
        dest="from_",
        choices=INPUT_FORMS,
        help="the input's form (default: by its ending, else by how it begins)",
    )
    add("--to", choices=OUTPUT_FORMS, help="the output's form (default: by its ending)")
    add(
        "--top-k",
        type=_top_k,
        default=1,
        metavar="K",
        help="probabilities a row lists, highest first (default: 1)",
    )
    add(
        "--label-order",
        choices=LABEL_ORDERS,
        default="competition",
        help="order of a submission's 30 probabilities",
    )
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default=default_device,
        help="where to run (default: KORE_DEVICE, auto)",
    )
    add(
        "--cascade-caution",
        type=_share,
        default=default_caution,
        metavar="C",
        help="as serving's; 1: every member votes on every row",
    )
    add(
        "--window",
        type=_positive,
        default=WINDOW_ROWS,
        metavar="ROWS",
        help=f"rows sorted and finished together ({WINDOW_ROWS})",
    )
    add(
        "--tuning-s",
        type=_seconds,
        default=TUNING_S,
        metavar="S",
        help=f"seconds that measuring the lanes may take ({TUNING_S:g})",
    )
    return parser


def _top_k(text: str) -> int:
    if not 1 <= (number := _positive(text)) <= len(RELATIONS):
        raise argparse.ArgumentTypeError(f"1 to {len(RELATIONS)} is required, not {text}")
    return number


def _share(text: str) -> float:
    if not 0 <= (share := _number(text)) <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is required, not {text!r}")
    return share


def _seconds(text: str) -> float:
    if not 0 <= (seconds := _number(text)) <= 600:
        raise argparse.ArgumentTypeError(f"0 to 600 seconds are required, not {text!r}")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to 1,000,000 is required, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
