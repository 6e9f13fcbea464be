"""The share of the bare lanes' speed that offline scoring reaches: python -m benchmarks.scoring

1. Run the rows through the tuned lanes alone: already tokenised, all of them cut by cost at once.
2. Run them through `python -m scoring`: read from a file, checked, tokenised, sorted within windows, voted on
   and written, each window flushed to the disk.

In turns; the median of the ratios within a turn counts, because a machine's speed drifts.
"""

import csv
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Final
from unittest.mock import patch

from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, conclude, make_parser

PROMISED: Final = 0.95
"""Share of the bare lanes' rows a second."""
FORMS: Final = ("jsonl", "json", "csv")


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("benchmarks.scoring", "Compare offline scoring with its bare lanes.", "--count 1200")
    add_bundle(parser)
    add_rows(parser, count=3000)
    parser.add_argument("--turns", type=int, default=3, help="measurements of each form (default: 3)")
    arguments = parser.parse_args(argv)
    import scoring.__main__
    import scoring.run
    from engine.cores import available_cores
    from engine.settings import DEFAULT_BUNDLE, EngineSettings
    from engine.tuning import load
    from models.bundle import Bundle
    from models.example import Example
    from models.memory import few_heaps
    from scoring.engine import WindowRunner

    few_heaps(available_cores())
    bundle = arguments.bundle or DEFAULT_BUNDLE
    rows = draw_rows(arguments.rows, arguments.count)
    tuned = load(Bundle.open(bundle), EngineSettings(all_cores_for_one=False))
    encoded = [tuned.lanes.ensemble.encode(Example.from_row(row)) for row in rows]
    bare: list[float] = []
    speeds: dict[str, list[float]] = {form: [] for form in FORMS}
    # tuned once: every run then has the same lanes
    with tempfile.TemporaryDirectory() as folder, patch.object(scoring.run, "load", lambda *_: tuned):
        for form in FORMS:
            write_rows(rows, form, Path(folder) / f"rows.{form}")
        for _ in range(arguments.turns):
            with WindowRunner(tuned) as lanes:
                began = time.perf_counter()
                list(lanes.submit(encoded).finished())
                bare.append(len(rows) / (time.perf_counter() - began))
            for form in FORMS:
                files = [f"{folder}/rows.{form}", f"{folder}/out.jsonl", "--bundle", str(bundle)]
                with redirect_stdout(StringIO()) as summary:
                    assert scoring.__main__.main(files) == 0
                speeds[form].append(json.loads(summary.getvalue())["rows_per_s"])
    shares = {
        form: median(speed / top for speed, top in zip(speeds[form], bare, strict=True)) for form in FORMS
    }
    figures = {
        "rows": len(rows),
        "split": f"{tuned.lanes.split.lanes} x {tuned.lanes.split.threads}",
        "bare_rows_per_s": round(median(bare), 1),
        "rows_per_s": {form: round(median(speeds[form]), 1) for form in FORMS},
        "share_of_bare": {form: round(share, 3) for form, share in shares.items()},
    }
    promises = {
        f"{form}: at least {PROMISED:.0%} of the bare lanes": share >= PROMISED
        for form, share in shares.items()
    }
    return conclude("scoring", figures, promises)


def write_rows(rows: list[dict[str, object]], form: str, path: Path) -> None:
    """Write rows as JSON, JSONL or CSV. In CSV entities are Python literals, as in the competition's
    files."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if form == "json":
            json.dump(rows, file, ensure_ascii=False)
        elif form == "jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
