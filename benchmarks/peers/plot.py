"""The comparison as an SVG bar chart, drawn by hand: a plotting library would be the heaviest dependency of
the project's environment."""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.peers.report import CONNECTIONS, Standing

LABELS, BARS, MARGIN = 330, 460, 70  # widths in pixels
BAR, GAP, TOP = 13, 12, 54  # heights
SHADES: Final = ("#b8c4d6", "#6f8fb8", "#274b7a")  # of 1, 16 and 64 connections, readable without colour
OUR_SHADES: Final = ("#f0c9a0", "#e39a4f", "#b8621b")


def chart(standings: Sequence[Standing]) -> str:
    """Requests a second of every server at every number of connections."""
    group = BAR * len(CONNECTIONS) + GAP
    width, height = LABELS + BARS + MARGIN, TOP + group * len(standings)
    fastest = (
        max((figures.rps for standing in standings for figures in standing.figures.values()), default=0) or 1
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="12" y="22" font-size="15">Requests answered a second, same models, same cores</text>',
    ]
    for place, (connections, shade) in enumerate(zip(CONNECTIONS, SHADES, strict=True)):
        x = LABELS + 120 * place
        parts.append(
            f'<rect x="{x}" y="32" width="10" height="10" fill="{shade}"/><text x="{x + 15}" y="41">{connections} connections</text>'
        )
    for place, standing in enumerate(standings):
        top = TOP + group * place
        best = ", its best" * (standing.kind == "best")
        parts.append(f'<text x="12" y="{top + BAR}" font-weight="bold">{escape(standing.title)}</text>')
        parts.append(
            f'<text x="12" y="{top + 2 * BAR + 2}" fill="#555">{escape(standing.configuration + best)}</text>'
        )
        shades = OUR_SHADES if standing.kind == "ours" else SHADES
        for line, (connections, shade) in enumerate(zip(CONNECTIONS, shades, strict=True)):
            if connections in standing.figures:
                rps, y = standing.figures[connections].rps, top + BAR * line
                length = BARS * rps / fastest
                parts.append(
                    f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{shade}"/>'
                )
                parts.append(f'<text x="{LABELS + length + 5:.1f}" y="{y + BAR - 4}">{rps:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
