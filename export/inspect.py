"""Show the contents of a bundle on one screen.

It needs only the packages that serving installs.

Example:
  python -m export.inspect bundles/default
"""

import sys
from pathlib import Path
from typing import Any

from export.command import ExportParser
from models.bundle import Bundle, Cascade, Manifest, Member, ModelFile
from models.markers import described


def describe(bundle: Bundle) -> str:
    """The bundle's manifest as text for people."""
    manifest = bundle.manifest
    lines = [*_head(manifest)]
    for member in manifest.members:
        lines += _member(bundle, member)
    pairs = [pair for pairs in (manifest.type_restriction or {}).values() for pair in pairs.values()]
    if sizes := [len(admitted) for admitted in pairs]:
        span = f"{min(sizes)} to {max(sizes)} of the 30 relations"
        lines.append(f"type restriction: {len(sizes)} pairs of entity types, which admit {span}")
    if manifest.cascade is not None:
        lines.append(_cascade(manifest.cascade))
    for device, golden in manifest.golden.items():
        lines.append(f"golden rows on {device}: {len(golden.rows)}, tolerance {golden.tolerance:g}")
    return "\n".join(lines)


def _head(manifest: Manifest) -> list[str]:
    source, count = manifest.source, len(manifest.members)
    licences = ", ".join(source.licences) or "no licence stated"
    measured = [
        f"{device}: micro-F1 {quality.micro_f1:.2f}, AUPRC {quality.auprc:.2f} over {quality.rows} rows"
        f" ({quality.data[:40]}…)"
        for device, quality in manifest.quality.items()
    ]
    return [
        f"{manifest.name}: {count} members, {manifest.voting}, window of {manifest.max_length} tokens",
        f"source: {source.encoder}; {source.data}; {licences}",
        *measured,
    ]


def _member(bundle: Bundle, member: Member) -> list[str]:
    layers = f"{member.layers} layers"
    if member.continues:
        layers += f" after those of {member.continues}"
    return [
        f"member {member.name}: weight {member.weight:g}, {layers}, {described(member.encoding.markers)}",
        *(_graph(bundle.path, file) for file in member.files),
    ]


def _graph(folder: Path, file: ModelFile) -> str:
    parity = file.parity
    size = sum((folder / name).stat().st_size for name in (file.path, file.weights) if name) / 1e6
    shared = f" ({file.weights} shared)" if file.weights else ""
    area = "" if parity.auprc is None else f", AUPRC {parity.auprc_before:.2f} -> {parity.auprc:.2f}"
    return (
        f"  {file.path}: {file.device}, {file.precision}, {size:.1f} MB{shared},"
        f" {file.fusions.get('Attention', 0)} attention blocks fused;"
        f" {parity.label_agreement:.2%} of {parity.rows} labels as in {parity.reference},"
        f" largest difference {parity.largest_difference:.3g} (mean {parity.mean_difference:.3g}),"
        f" micro-F1 {parity.micro_f1_before:.2f} -> {parity.micro_f1:.2f}{area}; proven on: {file.machine}"
    )


def _cascade(cascade: Cascade) -> str:
    thresholds = ", ".join(f"{threshold:g}" for threshold in cascade.thresholds)
    shares = ", ".join(f"{share:.1%} by {count}" for count, share in enumerate(cascade.shares, start=1))
    served, expected = cascade.quality, cascade.cross_fitted
    return (
        f"cascade: thresholds {thresholds}; rows answered: {shares} members;"
        f" micro-F1 {served.micro_f1:.2f}, AUPRC {served.auprc:.2f};"
        f" cross-fitted {expected.micro_f1:.2f}, {expected.auprc:.2f}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.inspect", __doc__)
    parser.add_bundle()
    given = parser.parse_args(argv)
    return parser.run(lambda: _show(given.bundle))


def _show(place: str) -> dict[str, Any]:
    bundle = Bundle.open(place)
    print(describe(bundle))
    manifest = bundle.manifest
    return {"bundle": str(bundle.path), "name": manifest.name, "members": len(manifest.members)}


if __name__ == "__main__":
    sys.exit(main())
