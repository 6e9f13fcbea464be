"""A cascade's quality against its cost, as an SVG that lies in the bundle."""

from collections.abc import Sequence

from models.bundle import Manifest

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 560, 320, 60, 40, 20, 50
COLOURS = ("#274b7a", "#b8621b")


def plot(curve: Sequence[tuple[float, float, float]], manifest: Manifest) -> str:
    """Micro-F1 and AUPRC over the share of the whole ensemble's cost.

    Args:
        curve: cost (1 is every member voting on every row, by layers), micro-F1 and AUPRC, for thresholds
            from never stopping down.
    """
    cascade = manifest.cascade
    assert cascade is not None
    low = min(value for _, *values in curve for value in values) - 1
    high = max(value for _, *values in curve for value in values) + 1

    def point(cost: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * cost
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return f"{x:.1f},{y:.1f}"

    layers = [member.layers for member in manifest.members]
    spent = sum(share * sum(layers[:count]) for count, share in enumerate(cascade.shares, start=1)) / sum(
        layers
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">Quality against cost: the cascade of {len(layers)} members</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 12}">share of the layers that every member voting would run; dots: the fitted thresholds</text>',
    ]
    for tenth in range(0, 11, 2):
        x, bottom = point(tenth / 10, low).split(",")
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{float(bottom) + 14:.1f}" text-anchor="middle">{tenth / 10:g}</text>')
    for value in range(int(low) + 1, int(high) + 1, max(1, int(high - low) // 6)):
        x, y = point(0, value).split(",")
        parts.append(f'<text x="{float(x) - 6}" y="{y}" text-anchor="end">{value}</text>')
    fitted = (cascade.quality.micro_f1, cascade.quality.auprc)
    for index, (name, colour) in enumerate(zip(("micro-F1", "AUPRC"), COLOURS, strict=True)):
        line = " ".join(point(cost, values[index]) for cost, *values in curve)
        x, y = point(spent, fitted[index]).split(",")
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT - 130 + 70 * index}" y="{TOP - 4}" fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
