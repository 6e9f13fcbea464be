"""The quality of a cascade against its cost, as an SVG in the bundle. Serving installs no plotting
library."""

from collections.abc import Sequence
from typing import NamedTuple

from models.bundle import Cascade

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 560, 320, 60, 40, 20, 50
COLOURS = ("#274b7a", "#b8621b")


class CurvePoint(NamedTuple):
    """Cost and quality of one threshold. The cost is 1 if every member votes on every row; it counts
    layers."""

    cost: float
    micro_f1: float
    auprc: float


def plot(curve: Sequence[CurvePoint], cascade: Cascade, layers: Sequence[int]) -> str:
    """Micro-F1 and AUPRC over the cost.

    Args:
        curve: from never stopping down.
        layers: of each member.
    """
    low = min(min(each.micro_f1, each.auprc) for each in curve) - 1
    high = max(max(each.micro_f1, each.auprc) for each in curve) + 1

    def point(cost: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * cost
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return f"{x:.1f},{y:.1f}"

    title = f"Quality against cost: the cascade of {len(layers)} members"
    below = "share of the layers that every member voting would run; dots: the fitted thresholds"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 12}">{below}</text>',
    ]
    for tenth in range(0, 11, 2):
        x, bottom = point(tenth / 10, low).split(",")
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{float(bottom) + 14:.1f}" text-anchor="middle">{tenth / 10:g}</text>')
    for value in range(int(low) + 1, int(high) + 1, max(1, int(high - low) // 6)):
        x, y = point(0, value).split(",")
        parts.append(f'<text x="{float(x) - 6}" y="{y}" text-anchor="end">{value}</text>')
    stages = enumerate(cascade.shares, start=1)
    spent = sum(share * sum(layers[:count]) for count, share in stages) / sum(layers)
    lines = {
        "micro-F1": ([(each.cost, each.micro_f1) for each in curve], cascade.quality.micro_f1),
        "AUPRC": ([(each.cost, each.auprc) for each in curve], cascade.quality.auprc),
    }
    for index, (name, (line, fitted)) in enumerate(lines.items()):
        colour, along = COLOURS[index], " ".join(point(*each) for each in line)
        x, y = point(spent, fitted).split(",")
        parts.append(f'<polyline points="{along}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        place = WIDTH - RIGHT - 130 + 70 * index
        parts.append(f'<text x="{place}" y="{TOP - 4}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
