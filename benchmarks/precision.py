"""Compares an ensemble with itself in another precision: python -m benchmarks.precision BUNDLE REFERENCE
--data ROWS

1. Both bundles answer the same rows, already tokenised and cut into sorted batches, on one lane per core and
   without HTTP. In turns; the median of the ratios within a turn counts, because a machine's speed drifts.
2. Their members, in the same order, are compared row by row.

REFERENCE comes from the checkpoints of BUNDLE: python -m export … --precision fp32.
"""

import sys
from pathlib import Path
from statistics import median
from typing import Final

from loadtest.command import conclude, make_parser

FASTER: Final = 1.7
AGREEMENT: Final = 0.98
LOST: Final = 0.3
"""Points of micro-F1."""


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.precision",
        "Compare the speed and the answers of an ensemble in two precisions.",
        "bundles/default bundles/default-fp32 --data validation.jsonl",
    )
    parser.add_argument("bundle", help="bundle to measure: a folder, or hf://owner/name@revision")
    parser.add_argument("reference", help="bundle with the same members in another precision")
    parser.add_argument("--data", type=Path, required=True, metavar="ROWS", help="JSONL of labelled rows")
    parser.add_argument(
        "--count", type=int, default=400, help="rows to time; all are compared (default: 400)"
    )
    parser.add_argument("--turns", type=int, default=5, help="measurements of each bundle (default: 5)")
    arguments = parser.parse_args(argv)
    from benchmarks.bare_sessions import rows_per_s
    from engine.cores import available_cores
    from engine.lanes import Lanes
    from engine.planner import cut_sorted
    from engine.split import Split
    from models.bundle import Bundle
    from models.memory import few_heaps
    from models.metrics import micro_f1
    from models.rows import label_ids, read_labelled

    few_heaps(available_cores())
    rows = read_labelled(arguments.data)
    examples, labels = [row.example for row in rows], label_ids(rows)
    split = Split(available_cores(), 1)
    sides = [Lanes.load(Bundle.open(path), "cpu", split) for path in (arguments.bundle, arguments.reference)]
    encoded = sorted((sides[0].ensemble.encode(example) for example in examples[: arguments.count]), key=len)
    batches = [[encoded[place] for place in cut] for cut in cut_sorted([len(row) for row in encoded])]
    speeds = [
        [rows_per_s(lanes.ensemble, batches, split.lanes, every_member=True) for lanes in sides]
        for _ in range(arguments.turns)
    ]
    predicted = [lanes.member_probabilities(examples).argmax(axis=2) for lanes in sides]
    members = [
        {
            "member": member.name,
            "agreement": float((ours == theirs).mean()),
            "micro_f1": micro_f1(labels, ours),
            "micro_f1_of_reference": micro_f1(labels, theirs),
        }
        for member, ours, theirs in zip(sides[0].ensemble.bundle.manifest.members, *predicted, strict=True)
    ]
    ratios = [ours / theirs for ours, theirs in speeds]
    figures = {
        "rows": len(rows),
        "rows_per_s": [round(median(side), 1) for side in zip(*speeds, strict=True)],
        "ratio": round(median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "members": members,
    }
    promises = {f"at least {FASTER} times the rows a second": median(ratios) >= FASTER}
    for one in members:
        lost = abs(one["micro_f1"] - one["micro_f1_of_reference"])
        promises[f"{one['member']}: {AGREEMENT:.0%} of the labels agree"] = one["agreement"] >= AGREEMENT
        promises[f"{one['member']}: micro-F1 within {LOST}"] = lost <= LOST
    return conclude("precision", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
