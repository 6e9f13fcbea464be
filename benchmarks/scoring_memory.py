"""The memory of offline scoring as its input grows: python -m benchmarks.scoring_memory --bundle BUNDLE

Scores the same labelled rows, repeated to 10 %, 50 % and 100 % of a million lines, with a report. Compares
the peak memory of the processes, as the kernel counts it. A million rows take hours with real members;
memory grows the same way with any members, so a tiny bundle shows it in minutes.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, conclude, make_parser
from loadtest.server import ROOT
from models.hub import BundlePlace

PROMISED: Final = 1.10


def peak_mb(bundle: BundlePlace | None, source: Path, output: Path) -> float:
    """The peak resident memory of one run, in MB."""
    command = [sys.executable, "-m", "scoring", source, output, "--cascade-caution", "1"]
    command += ["--bundle", bundle] if bundle else []
    with subprocess.Popen(
        [*map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"scoring ended with {process.returncode}: {' '.join(map(str, command))}")
    return usage.ru_maxrss / 1000


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.scoring_memory",
        "Compare the peak memory of scoring files of several sizes.",
        "--bundle runs/tiny --counts 1000 5000 10000",
    )
    add_bundle(parser)
    add_rows(parser, count=3885)
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=(100_000, 500_000, 1_000_000),
        help="lines of the inputs, the smallest first (default: 100000 500000 1000000)",
    )
    arguments = parser.parse_args(argv)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in draw_rows(arguments.rows, arguments.count)]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "rows.jsonl", Path(folder) / "out.jsonl"
        for count in arguments.counts:
            with source.open("w", encoding="utf-8") as file:
                file.writelines(itertools.islice(itertools.cycle(lines), count))
            peaks[count] = peak_mb(arguments.bundle, source, output)
            print(f"{count} rows: {peaks[count]:.0f} MB", file=sys.stderr)
            output.unlink()
    small, *_, large = peaks.values()
    promise = f"at most {PROMISED} times the memory; measured {large / small:.3f}"
    figures = {"peak_mb": {str(count): round(peak, 1) for count, peak in peaks.items()}}
    return conclude("scoring_memory", figures, {promise: max(peaks.values()) <= PROMISED * small})


if __name__ == "__main__":
    sys.exit(main())
