"""How much of the machine offline scoring gets out: python -m benchmarks.scoring

The same rows, once through the tuned lanes alone (already tokenised, cut by cost all together), once through `python -m scoring`'s
own door: read from a file, checked, tokenised, sorted within windows, voted on, written, each window flushed
to the disk. In turns, since the machine's speed drifts; what counts is the median of the ratios within a
turn.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final
from unittest.mock import patch

import scoring.__main__
import scoring.run
from benchmarks.ceiling import read_rows
from engine.settings import EngineSettings
from engine.tuning import load
from loadtest.server import DEFAULT_BUNDLE
from loadtest.verdict import conclude
from models.bundle import Bundle
from models.example import Example
from scoring.engine import WindowRunner

PROMISED: Final = 0.95
"""Share of the bare lanes' rows a second."""
FORMS: Final = ("jsonl", "json", "csv")


def write_rows(rows: list[dict[str, object]], form: str, path: Path) -> None:
    """Rows as a file of one of the forms; in CSV, entities are Python literals, as the competition has
    them."""
    if form == "json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, ["guid", "sentence", "subject_entity", "object_entity", "label", "source"]
            )
            writer.writeheader()
            writer.writerows(rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows; default: $KLUE_RE_DATA/validation.jsonl, else rows of our own",
    )
    parser.add_argument("--count", type=int, default=3000, help="rows drawn from them")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args(argv)
    rows = read_rows(arguments.rows, arguments.count)
    tuned = load(Bundle.open(arguments.bundle), EngineSettings(all_cores_for_one=False))
    encoded = [tuned.lanes.ensemble.encode(Example.from_row(row)) for row in rows]
    ratios: dict[str, list[float]] = {form: [] for form in FORMS}
    speeds: dict[str, list[float]] = {form: [] for form in FORMS}
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder, patch.object(scoring.run, "load", lambda *_: tuned):
        for form in FORMS:
            write_rows(rows, form, Path(folder) / f"rows.{form}")
        for _ in range(arguments.turns):
            with WindowRunner(tuned) as lanes:
                began = time.perf_counter()
                list(lanes.submit(encoded).finished())
                bare.append(len(rows) / (time.perf_counter() - began))
            for form in FORMS:
                summary = StringIO()
                with redirect_stdout(summary):
                    door = [
                        str(Path(folder) / f"rows.{form}"),
                        str(Path(folder) / "out.jsonl"),
                        "--bundle",
                        str(arguments.bundle),
                    ]
                    assert scoring.__main__.main(door) == 0
                speeds[form].append(json.loads(summary.getvalue())["rows_per_s"])
                ratios[form].append(speeds[form][-1] / bare[-1])
    figures = {
        "rows": len(rows),
        "split": f"{tuned.lanes.split.lanes} x {tuned.lanes.split.threads}",
        "bare_rows_per_s": round(statistics.median(bare), 1),
        "rows_per_s": {form: round(statistics.median(speeds[form]), 1) for form in FORMS},
        "share_of_bare": {form: round(statistics.median(ratios[form]), 3) for form in FORMS},
    }
    promises = {
        f"{form}: at least {PROMISED:.0%} of the bare lanes": statistics.median(ratios[form]) >= PROMISED
        for form in FORMS
    }
    return conclude("scoring", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
