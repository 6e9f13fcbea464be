"""Check a bundle on this machine: its hashes, its golden rows and, given labelled rows, its metrics.

    python -m export.verify bundles/default --data validation.jsonl [--device cuda]

Needs no more than serving does.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Literal

from engine.devices import choose_device
from engine.lanes import Lanes
from export.evaluate import check_window, evaluate, read_rows, same_rows
from models.bundle import Bundle, BundleRefused, Quality
from models.ensemble import DeviceUnavailable
from models.example import InvalidExample
from models.precision import Device
from models.rows import InvalidRows

METRIC_TOLERANCE = 0.1  # points: a near-tie may fall the other way on another processor


def verify(
    path: Path, data: Path | None = None, asked: Device | Literal["auto"] = "auto"
) -> dict[str, object]:
    """Open, load and prove a bundle; with `data`, measure it too.

    Raises:
        BundleRefused: the bundle is not what it says, or its metrics over the rows it was proven on have
            moved.
        DeviceUnavailable: the device that was asked for cannot run it.
    """
    bundle = Bundle.open(path)
    device, _ = choose_device(bundle, asked)
    lanes = Lanes.load(bundle, device, cascade_caution=1.0)
    lanes.ensemble.prove()
    golden = bundle.manifest.golden[device]
    summary: dict[str, object] = {
        "bundle": str(path),
        "name": bundle.manifest.name,
        "device": device,
        "golden_rows": len(golden.rows),
    }
    if data:
        rows = read_rows(data)
        check_window(data, rows, lanes.ensemble.encode)
        measured = evaluate(lanes, rows, data)
        compared = _compare(path, measured, bundle.manifest.quality[device], "")
        summary |= measured.model_dump() | {"compared_with_manifest": compared}
        if bundle.manifest.cascade is not None:
            served = evaluate(Lanes.load(bundle, device), rows, data)
            # It was fitted and measured on a CPU.
            compared = device == "cpu" and _compare(
                path, served, bundle.manifest.cascade.quality, " with the cascade"
            )
            summary["with_cascade"] = {
                "micro_f1": served.micro_f1,
                "auprc": served.auprc,
                "compared_with_manifest": compared,
            }
    return summary


def _compare(path: Path, measured: Quality, promised: Quality, how: str) -> bool:
    """Whether they were measured on the same rows, whatever the file is called, and so could be compared."""
    if not same_rows(measured.data, promised.data):
        return False
    for metric in ("micro_f1", "auprc"):
        here, there = getattr(measured, metric), getattr(promised, metric)
        if abs(here - there) > METRIC_TOLERANCE:
            raise BundleRefused(
                f"bundle {path}: {metric}{how} is {here:.2f} on this machine, the manifest says {there:.2f}"
            )
    return True


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m export.verify", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="ROWS.jsonl",
        help="labelled KLUE-RE rows to measure micro-F1 and AUPRC on",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to run it (default: auto, as serving does)",
    )
    arguments = parser.parse_args(argv)
    try:
        summary = verify(arguments.bundle, arguments.data, arguments.device)
    except (BundleRefused, DeviceUnavailable, InvalidRows, InvalidExample, OSError) as error:
        print(f"export.verify: {error}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
