"""One run of scoring: an input becomes an output, its rejects, its report and a summary."""

import hashlib
import sys
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from engine.devices import choose_device
from engine.tuning import TunedEnsemble, load
from models.bundle import SUMS, Bundle
from models.files.forms import STANDARD
from models.files.reader import open_input
from models.files.records import Input, Record
from models.precision import Device
from scoring import parquet
from scoring.compare import read_predictions
from scoring.engine import Answering, WindowRunner
from scoring.errors import Refused, Stopped
from scoring.evaluation import STORED, Evaluation, evaluate
from scoring.journal import Finished, Journal, Sink, StandardOutput, Tally, write_whole
from scoring.mistakes import most_confident
from scoring.options import ScoringOptions
from scoring.outputs import Writer, choose_writer, encoded, json_lines
from scoring.paths import Paths, can_be_read_again, identity
from scoring.progress import Progress, progress_bar
from scoring.reasons import MOST_LISTED, REASONS_TOLD, count_reasons
from scoring.report import render
from scoring.windows import Window, begin, windows


class StrictViolation(Stopped):
    """A row cannot be scored, and --strict was given."""


def run(options: ScoringOptions, tuned: TunedEnsemble | None = None) -> dict[str, Any]:
    """Score the input into the output; returns the summary.

    1. Open the input and read its first record.
    2. Open the bundle, and the journal of an earlier run that continues.
    3. Score window after window (`_score`).
    4. Write the report, if rows have labels.
    5. Give the output its final name.

    Args:
        options: their paths have passed `scoring.paths.check_paths`.
        tuned: the bundle's ensemble, if it is loaded already.

    Raises:
        Refused, InvalidRows, BundleRefused, DeviceUnavailable, OSError: the user's errors.
        Stopped: a bad row under --strict, or the engine failed.
    """
    writer = choose_writer(options)
    with ExitStack() as stack:
        source = open_input(options.input, options.input_form, options.encoding)
        stack.callback(source.close)
        records = begin(source.records)
        bundle = Bundle.open(options.engine.bundle)
        device = tuned.lanes.ensemble.device if tuned else choose_device(bundle, options.engine.device)[0]
        sink: Sink
        if options.output == STANDARD:
            sink = StandardOutput()
        else:
            sink = Journal(Paths.of(options.output), job(options, bundle, writer, device), options.resume)
        stack.enter_context(sink)
        resumed, began = sink.tally.rows, time.monotonic()
        try:
            if not sink.complete:
                tuned = tuned or load(bundle, options.engine)
                began = time.monotonic()
                _score(options, source, records, tuned, writer, sink)
            seconds = time.monotonic() - began
            evaluation = evaluate(sink.labelled, sink.tally.labelled) if sink.tally.labelled else None
            summary = _summary(options, source, bundle, sink.tally, evaluation) | {
                "resumed_after_rows": resumed,
                "seconds": round(seconds, 2),
                "rows_per_s": round((sink.tally.rows - resumed) / max(1e-9, seconds), 1),
            }
            if isinstance(sink, Journal):
                _report(sink, options.input, summary, evaluation)
                sink.publish(_to_parquet if writer.form == "parquet" else None)
        except BaseException as error:
            raise _with_rows_kept(error, sink) from None
    return summary


def job(options: ScoringOptions, bundle: Bundle, writer: Writer, device: Device) -> dict[str, Any]:
    """What must be equal for a run to continue an earlier one.

    Args:
        device: where the members really run. Each device has its own graphs, and their answers differ a
            little.
    """
    return {
        "input": identity(options.input) if can_be_read_again(options.input) else None,
        "device": device,
        "format of the labelled rows": str(STORED),
        "bundle": hashlib.sha256((bundle.path / SUMS).read_bytes()).hexdigest(),
        "options": [
            options.input_form,
            writer.form,
            writer.top_k,
            writer.label_order,
            options.strict,
            options.engine.cascade_caution,
            *([options.encoding] if options.encoding else []),
        ],
    }


def _score(
    options: ScoringOptions,
    source: Input,
    records: Iterable[Record],
    tuned: TunedEnsemble,
    writer: Writer,
    sink: Sink,
) -> None:
    """Score the rows that the sink does not have yet. The last commit tells it that it is complete."""
    waiting: deque[tuple[Window, Answering]] = deque()
    with WindowRunner(tuned) as lanes, progress_bar(sink.tally.rows) as progress:
        encode = writer.admitting(tuned.lanes.ensemble.encoder.encode_all)
        for window in windows(records, encode, sink.tally.rows, options.window):
            if options.strict and window.rejects:
                raise StrictViolation(str(window.rejects[0]))
            examples = [example for row in window.rows for example in row.encoded]
            waiting.append((window, lanes.submit(examples)))
            progress.expect(window.last, source.fraction())
            # the next window's batches wait already, so no lane is idle while this window ends
            if len(waiting) > 1:
                _finish(*waiting.popleft(), writer, sink, progress)
        while waiting:
            _finish(*waiting.popleft(), writer, sink, progress)
    sink.commit(Finished(b"" if sink.tally.rows else writer.header()), sink.tally, complete=True)


def _finish(window: Window, answering: Answering, writer: Writer, sink: Sink, progress: Progress) -> None:
    examples = rows = 0  # that are finished; the bar counts rows
    for finished in answering.finished():
        examples += finished
        new = examples * len(window.rows) // window.examples - rows
        progress.advance(new)
        rows += new
    progress.advance(len(window) - rows)
    left = iter(answering.predictions())
    answers = [(row, list(islice(left, len(row.encoded)))) for row in window.rows]
    labelled = [
        [row.label.id, *predictions[0].probabilities.tolist()]
        for row, predictions in answers
        if row.label.id is not None
    ]
    before = sink.tally
    listed = window.rejects[: MOST_LISTED - (before.rejected - before.unlisted)]
    tally = Tally(
        window.last,
        before.scored + len(window.rows),
        before.rejected + len(window.rejects),
        before.labelled + len(labelled),
        before.strange_labels + sum(row.label.strange is not None for row in window.rows),
        before.numbered_labels + sum(row.label.number for row in window.rows),
        count_reasons(before.reasons, window.rejects),
        most_confident(
            before.mistakes, ((row, predictions[0]) for row, predictions in answers if row.example)
        ),
        window.broken,
        before.unlisted + len(window.rejects) - len(listed),
    )
    output = (b"" if before.rows else writer.header()) + writer.lines(answers)
    rejects = json_lines([reject.document() for reject in listed])
    sink.commit(Finished(output, rejects, np.array(labelled, dtype=STORED).tobytes()), tally)


def _summary(
    options: ScoringOptions, source: Input, bundle: Bundle, tally: Tally, evaluation: Evaluation | None
) -> dict[str, Any]:
    paths = None if options.output == STANDARD else Paths.of(options.output)
    summary: dict[str, Any] = {
        "input_form": source.form,
        "encoding": source.encoding,
        "output": options.output,
        "bundle": bundle.manifest.name,
        "rows": tally.rows,
        "scored": tally.scored,
        "rejected": tally.rejected,
        "rejects_not_listed": tally.unlisted,
        "rejects": str(paths.rejects) if tally.rejected and paths else None,
        "broken": tally.broken,
        "labelled": tally.labelled,
        "strange_labels": tally.strange_labels,
        # numbers are read in the official order
        "label_numbers": {"rows": tally.numbered_labels, "order": "klue"} if tally.numbered_labels else None,
        "reasons": dict(sorted(tally.reasons.items(), key=lambda kind: -kind[1])[:REASONS_TOLD]),
    }
    if evaluation:
        summary |= {
            "micro_f1": evaluation.micro_f1,
            "auprc": evaluation.auprc,
            "calibration_error": evaluation.reliability.calibration_error,
            "report": str(paths.report) if paths else None,
        }
    return summary


def _report(journal: Journal, source: str, summary: dict[str, Any], evaluation: Evaluation | None) -> None:
    path = journal.paths.report
    if evaluation is None:
        path.unlink(missing_ok=True)  # an earlier run's
        return
    facts = {
        "input": source,
        "date": datetime.now(UTC).isoformat(sep=" ", timespec="minutes"),
        "bundle": summary["bundle"],
        f"SHA-256 of the bundle's {SUMS}": journal.job["bundle"],
        **{name: summary[name] for name in ("rows", "scored", "rejected", "strange_labels")},
    }
    title = f"Scores of {journal.paths.output.name}"
    write_whole(path, encoded(render(title, facts, evaluation, journal.tally.mistakes)))


def _to_parquet(part: Path, converted: Path) -> None:
    parquet.write(read_predictions(part, "jsonl"), converted)


def _with_rows_kept(error: BaseException, sink: Sink) -> BaseException:
    """The same error. If rows are finished, its message says that they are kept; else the partial files are
    removed."""
    if not isinstance(sink, Journal):
        return error
    if not sink.tally.rows or isinstance(error, StrictViolation):
        with suppress(OSError):
            sink.discard()
        return error
    kept = f"{sink.tally.rows:,} rows are finished and kept: --resume continues after them"
    if isinstance(error, OSError):
        return Refused(f"{error.filename or sink.paths.output}: {error.strerror or error}; {kept}")
    if isinstance(error, KeyboardInterrupt):
        print(f"scoring: {kept}", file=sys.stderr)
    return Stopped(f"{error}; {kept}") if isinstance(error, Stopped) else error
