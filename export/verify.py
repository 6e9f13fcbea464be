"""Check a bundle on this machine: its hashes, its golden rows and, with labelled rows, its metrics.

It needs only the packages that serving installs.

Example:
  python -m export.verify bundles/default --data validation.jsonl --device cuda
"""

import sys
from pathlib import Path
from typing import Final, get_args

from engine.settings import AskedDevice
from export.command import ExportParser
from models.bundle import Bundle, BundleRefused, Quality
from models.hub import BundlePlace

METRIC_TOLERANCE: Final = 0.1
"""Points. A near-tie can have another result on another processor."""


def verify(place: BundlePlace, data: Path | None = None, asked: AskedDevice = "auto") -> dict[str, object]:
    """Open, load and prove a bundle; with `data`, also measure it.

    Raises:
        BundleRefused: the bundle is not as its manifest says, or its metrics have changed on the rows that
            it was proven on.
        DeviceUnavailable: the device cannot run it.
    """
    # they load ONNX Runtime
    from engine.devices import choose_device
    from engine.lanes import Lanes
    from export.evaluate import evaluate, read_rows
    from models.rows import check_window

    bundle = Bundle.open(place)
    device, _ = choose_device(bundle, asked)
    lanes = Lanes.load(bundle, device, cascade_caution=1.0)
    lanes.ensemble.prove()
    summary: dict[str, object] = {
        "bundle": str(place),
        "name": bundle.manifest.name,
        "device": device,
        "golden_rows": len(bundle.manifest.golden[device].rows),
    }
    if data is None:
        return summary
    rows = read_rows(data)
    check_window(data, rows, lanes.ensemble.encode)
    measured = evaluate(lanes, rows, data)
    compared = _compare(place, measured, bundle.manifest.quality[device], "")
    summary |= measured.model_dump() | {"compared_with_manifest": compared}
    if cascade := bundle.manifest.cascade:
        served = evaluate(Lanes.load(bundle, device), rows, data)
        # the cascade was fitted and measured on a CPU
        compared = device == "cpu" and _compare(place, served, cascade.quality, " with the cascade")
        metrics = {"micro_f1": served.micro_f1, "auprc": served.auprc}
        summary["with_cascade"] = {**metrics, "compared_with_manifest": compared}
    return summary


def _compare(place: BundlePlace, measured: Quality, promised: Quality, how: str) -> bool:
    """Whether both were measured on the same rows, under any file name, so that they can be compared."""
    from export.evaluate import same_rows

    if not same_rows(measured.data, promised.data):
        return False
    for metric in ("micro_f1", "auprc"):
        here, there = getattr(measured, metric), getattr(promised, metric)
        if abs(here - there) > METRIC_TOLERANCE:
            raise BundleRefused(
                f"bundle {place}: {metric}{how} is {here:.2f} on this machine, the manifest says {there:.2f}"
            )
    return True


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.verify", __doc__)
    parser.add_bundle()
    parser.add_rows("--data", "labelled KLUE-RE rows, to measure micro-F1 and AUPRC")
    parser.add_argument(
        "--device", choices=get_args(AskedDevice), default="auto", help="where to run it (default: auto)"
    )
    given = parser.parse_args(argv)
    return parser.run(lambda: verify(given.bundle, given.data, given.device))


if __name__ == "__main__":
    sys.exit(main())
