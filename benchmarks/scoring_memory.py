"""How much memory offline scoring takes as its input grows: python -m benchmarks.scoring_memory --bundle BUNDLE

The same labelled rows, repeated to ten thousand and to a million lines, through `python -m scoring` with its report; the peak of each
process, as the kernel counts it. A million rows take hours with members worth serving: memory that grows with the rows grows alike under
any members, so a tiny bundle (`--bundle`) shows it in minutes.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.ceiling import read_rows
from loadtest.server import DEFAULT_BUNDLE, ROOT
from loadtest.verdict import conclude

PROMISED: Final = 1.10


def peak_mb(bundle: Path, source: Path, output: Path) -> float:
    """Largest resident memory of one run, in MB."""
    command = [sys.executable, "-m", "scoring", source, output, "--bundle", bundle, "--cascade-caution", "1"]
    with subprocess.Popen(
        [*map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"scoring ended with {process.returncode}: {' '.join(map(str, command))}")
    return usage.ru_maxrss / 1000


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring_memory", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows; default: $KLUE_RE_DATA/validation.jsonl, else rows of our own",
    )
    parser.add_argument(
        "--counts", type=int, nargs=2, default=(10_000, 1_000_000), metavar="N", help="rows of the two inputs"
    )
    arguments = parser.parse_args(argv)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in read_rows(arguments.rows, 3885)]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "rows.jsonl", Path(folder) / "out.jsonl"
        for count in arguments.counts:
            with source.open("w", encoding="utf-8") as file:
                file.writelines(itertools.islice(itertools.cycle(lines), count))
            peaks[count] = peak_mb(arguments.bundle.resolve(), source, output)
            print(f"{count} rows: {peaks[count]:.0f} MB", file=sys.stderr)
            output.unlink()
    small, large = peaks.values()
    figures = {
        "bundle": str(arguments.bundle),
        "peak_mb": {str(count): round(peak, 1) for count, peak in peaks.items()},
    }
    return conclude(
        "scoring_memory",
        figures,
        {f"at most {PROMISED} times the memory, for {large / small:.3f}": large <= PROMISED * small},
    )


if __name__ == "__main__":
    sys.exit(main())
