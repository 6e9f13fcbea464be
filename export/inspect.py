"""What is inside a bundle, on one screen. Needs no more than serving does.

python -m export.inspect bundles/default
"""

import argparse
import json
import sys
from pathlib import Path

from models.bundle import Bundle, BundleRefused


def describe(bundle: Bundle) -> str:
    """The bundle's manifest in a person's words."""
    manifest = bundle.manifest
    lines = [
        f"{manifest.name}: {len(manifest.members)} members, {manifest.voting}, window of {manifest.max_length} tokens",
        f"source: {manifest.source.encoder}; {manifest.source.data}; {', '.join(manifest.source.licences) or 'no licence stated'}",
    ]
    for device, quality in manifest.quality.items():
        lines.append(
            f"{device}: micro-F1 {quality.micro_f1:.2f}, AUPRC {quality.auprc:.2f} over {quality.rows} rows ({quality.data[:40]}…)"
        )
    for member in manifest.members:
        lines.append(
            f"member {member.name}: weight {member.weight:g}, {member.layers} layers, {member.encoding.markers}"
        )
        for file in member.files:
            parity, fused = file.parity, file.fusions.get("Attention", 0)
            megabytes = (
                sum((bundle.path / name).stat().st_size for name in (file.path, file.weights) if name) / 1e6
            )
            shared = f" ({file.weights} shared)" if file.weights else ""
            lines.append(
                f"  {file.path}: {file.device}, {file.precision}, {megabytes:.1f} MB{shared}, {fused} attention blocks fused;"
                f" {parity.label_agreement:.2%} of {parity.rows} labels as in {parity.reference},"
                f" largest difference {parity.largest_difference:.3g}"
                f" (mean {parity.mean_difference:.3g}), micro-F1 {parity.micro_f1_before:.2f} -> {parity.micro_f1:.2f};"
                f" proven on: {file.machine}"
            )
    if sizes := [
        len(admitted)
        for by_object in (manifest.type_restriction or {}).values()
        for admitted in by_object.values()
    ]:
        lines.append(
            f"type restriction: {len(sizes)} pairs of entity types, which admit {min(sizes)} to {max(sizes)} of the 30 relations"
        )
    if manifest.cascade is not None:
        stops = ", ".join(
            f"{share:.1%} by {count}" for count, share in enumerate(manifest.cascade.shares, start=1)
        )
        served, expected = manifest.cascade.quality, manifest.cascade.cross_fitted
        lines.append(
            f"cascade: thresholds {', '.join(map('{:g}'.format, manifest.cascade.thresholds))}; rows answered: {stops} members;"
            f" micro-F1 {served.micro_f1:.2f}, AUPRC {served.auprc:.2f}; cross-fitted {expected.micro_f1:.2f}, {expected.auprc:.2f}"
        )
    for device, golden in manifest.golden.items():
        lines.append(f"golden rows on {device}: {len(golden.rows)}, tolerance {golden.tolerance:g}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m export.inspect", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    try:
        bundle = Bundle.open(parser.parse_args(argv).bundle)
    except BundleRefused as error:
        print(f"export.inspect: {error}", file=sys.stderr)
        return 2
    print(describe(bundle))
    print(
        json.dumps(
            {
                "bundle": str(bundle.path),
                "name": bundle.manifest.name,
                "members": len(bundle.manifest.members),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
