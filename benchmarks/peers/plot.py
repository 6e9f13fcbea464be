"""The comparison as a bar chart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.report import CONNECTIONS, OURS, Standing, name_configuration

SHADES: Final = ("#b8c4d6", "#6f8fb8", "#274b7a")
"""Of 1, 16 and 64 connections, from light to dark: readable without colour."""
OUR_SHADES: Final = ("#f0c9a0", "#e39a4f", "#b8621b")


def draw(standings: Sequence[Standing], path: Path) -> None:
    """Write an SVG of every server's requests a second at each number of connections. A server that never
    answered has its name and no bar."""
    from matplotlib import rc_context  # slow to import
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "peers"}):
        figure = Figure(figsize=(9, 1 + 0.6 * len(standings)), layout="constrained")
        axes = figure.subplots()
        for place, connections in enumerate(CONNECTIONS):
            rows = [row for row, one in enumerate(standings) if connections in one.figures]
            if not rows:
                continue
            rates = [standings[row].figures[connections].rps for row in rows]
            shades = [(OUR_SHADES if standings[row].kind in OURS else SHADES)[place] for row in rows]
            heights = [row + 0.27 * (place - 1) for row in rows]
            bars = axes.barh(heights, rates, 0.25, color=shades, label=f"{connections} connections")
            axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        names = [f"{one.title}\n{name_configuration(one)}" for one in standings]
        axes.set_yticks(range(len(standings)), names, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.set_xlabel("requests answered a second, same models, same cores")
        axes.legend(loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})
