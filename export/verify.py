"""Check a bundle on this machine: its hashes, its golden rows and, given labelled rows, its metrics.

    python -m export.verify bundles/default --data validation.jsonl

Needs no more than serving does.
"""

import argparse
import json
import sys
from pathlib import Path

from export.evaluate import evaluate
from models.bundle import Bundle, BundleRefused, Quality
from models.ensemble import DeviceUnavailable, Ensemble
from models.example import InvalidExample
from models.rows import InvalidRows, read_labelled

METRIC_TOLERANCE = 0.1  # points: a near-tie may fall the other way on another processor


def verify(path: Path, data: Path | None = None) -> dict[str, object]:
    """Open, load and prove a bundle; with `data`, measure it too.

    Raises:
        BundleRefused: the bundle is not what it says, or its metrics over the rows it was proven on have moved.
    """
    bundle = Bundle.open(path)
    ensemble = Ensemble.load(bundle, cascade_caution=1.0)
    ensemble.prove()
    summary: dict[str, object] = {"bundle": str(path), "name": bundle.manifest.name, "golden_rows": len(bundle.manifest.golden["cpu"].rows)}
    if data:
        rows = read_labelled(data)
        measured = evaluate(ensemble, rows, data)
        _compare(path, measured, bundle.manifest.quality["cpu"], "")
        summary |= measured.model_dump()
        if bundle.manifest.cascade is not None:
            served = evaluate(Ensemble.load(bundle), rows, data)
            _compare(path, served, bundle.manifest.cascade.quality, " with the cascade")
            summary["with_cascade"] = {"micro_f1": served.micro_f1, "auprc": served.auprc}
    return summary


def _compare(path: Path, measured: Quality, promised: Quality, how: str) -> None:
    for metric in ("micro_f1", "auprc"):
        here, there = getattr(measured, metric), getattr(promised, metric)
        if measured.data == promised.data and abs(here - there) > METRIC_TOLERANCE:
            raise BundleRefused(f"bundle {path}: {metric}{how} is {here:.2f} on this machine, the manifest says {there:.2f}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, prog="python -m export.verify", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, metavar="ROWS.jsonl", help="labelled KLUE-RE rows to measure micro-F1 and AUPRC on")
    arguments = parser.parse_args(argv)
    try:
        summary = verify(arguments.bundle, arguments.data)
    except (BundleRefused, DeviceUnavailable, InvalidRows, InvalidExample) as error:
        print(f"export.verify: {error}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
