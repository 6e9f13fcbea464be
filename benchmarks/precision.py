"""What another precision of the same ensemble is worth: python -m benchmarks.precision bundles/default bundles/default-fp32

Both bundles answer the same rows, already tokenised and cut into sorted batches, on a lane a core without
HTTP, in turns, since the machine's speed drifts; what counts is the median of the ratios within a turn. Their
members, in the same order, are compared row by row.
The second bundle comes from the checkpoints of the first: python -m export … --precision fp32.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final

from engine.cores import available_cores
from engine.lanes import Lanes
from engine.planner import cut_sorted
from engine.split import Split
from loadtest.verdict import conclude
from models.bundle import Bundle
from models.ensemble import EncodedExample
from models.metrics import micro_f1
from models.rows import label_ids, read_labelled

FASTER: Final = 1.7
AGREEMENT: Final = 0.98
LOST: Final = 0.3
"""Points of micro-F1."""


def rows_per_s(lanes: Lanes, batches: Sequence[Sequence[EncodedExample]]) -> float:
    """Of one pass over the batches on all lanes, every member voting."""
    began = time.perf_counter()
    with ThreadPoolExecutor(lanes.split.lanes) as threads:
        list(
            threads.map(
                lambda batch, number: lanes.ensemble.run(batch, number, every_member=True), batches, count()
            )
        )
    return sum(map(len, batches)) / (time.perf_counter() - began)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("reference", type=Path, help="the same members in another precision")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled KLUE-RE rows"
    )
    parser.add_argument("--count", type=int, default=400, help="rows that are timed; all are compared")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args(argv)
    rows = read_labelled(arguments.data)
    examples, labels = [row.example for row in rows], label_ids(rows)
    split = Split(available_cores(), 1)
    sides = [Lanes.load(Bundle.open(path), "cpu", split) for path in (arguments.bundle, arguments.reference)]

    ratios, speeds = [], []
    encoded = sorted((sides[0].ensemble.encode(example) for example in examples[: arguments.count]), key=len)
    batches = [[encoded[place] for place in cut] for cut in cut_sorted([len(row) for row in encoded])]
    for _ in range(arguments.turns):
        speeds.append([rows_per_s(lanes, batches) for lanes in sides])
        ratios.append(speeds[-1][0] / speeds[-1][1])
    said = [lanes.member_probabilities(examples).argmax(axis=2) for lanes in sides]
    members = [
        {
            "member": member.name,
            "agreement": float((ours == theirs).mean()),
            "micro_f1": micro_f1(labels, ours),
            "micro_f1_of_reference": micro_f1(labels, theirs),
        }
        for member, ours, theirs in zip(sides[0].ensemble.bundle.manifest.members, *said, strict=True)
    ]
    figures = {
        "rows": len(rows),
        "rows_per_s": [round(statistics.median(side), 1) for side in zip(*speeds, strict=True)],
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "members": members,
    }
    promises = {f"at least {FASTER} times the rows a second": statistics.median(ratios) >= FASTER}
    for one in members:
        promises[f"{one['member']}: at least {AGREEMENT:.0%} of the labels agree"] = (
            one["agreement"] >= AGREEMENT
        )
        promises[f"{one['member']}: micro-F1 within {LOST}"] = (
            abs(one["micro_f1"] - one["micro_f1_of_reference"]) <= LOST
        )
    return conclude("precision", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
