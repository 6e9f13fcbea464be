"""Draws the pictures of the documents from their own tables: python -m docs.plots

Each picture reads the first table below a heading, so that a picture and its table cannot differ. Pictures
that a command drew with its own figures are copied. Run it after a table has changed, and commit docs/img/.
"""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.command import CommandParser

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER: Final = Path(__file__).resolve().parent
IMAGES: Final = FOLDER / "img"
MEASURED: Final = FOLDER.parent / "benchmarks" / "measured"
DRAWN: Final = {
    "cascade": FOLDER.parent / "bundles" / "default" / "cascade.svg",
    **{plot.parent.name: plot for plot in MEASURED.glob("*/plot.svg")},
}
BLUES: Final = ("#b8c4d6", "#6f8fb8", "#274b7a")
ORANGE: Final = "#b8621b"


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without the table's head."""
    text = (FOLDER / page).read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    lines = text[text.index("\n| ") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip().replace(",", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def ablation(axes: "Axes") -> None:
    """Requests a second at 1, 16 and 64 connections for each part that is left."""
    rows = table("performance.md", "What each part gives")
    _groups(axes, [row[0] for row in rows], [[float(cell) for cell in row[1:4]] for row in rows])
    axes.set_title("Requests/s with parts of the engine taken away, by connections (VNNI)")


def ceiling(axes: "Axes") -> None:
    """Rows a second of bare sessions over the batch size."""
    for row in table("performance.md", "The ceiling"):
        axes.plot(range(5), [float(cell) for cell in row[1:]], marker="o", label=row[0])
    text = (FOLDER / "performance.md").read_text(encoding="utf-8")
    (by_cost,) = re.findall(r"cut by cost, do ([0-9.]+) rows/s", text)
    axes.axhline(float(by_cost), color="#555", linestyle="--", label="two lanes, cut by cost")
    axes.set_xticks(range(5), ["1", "2", "4", "8", "16"])
    axes.set(
        xlabel="rows in a batch", ylabel="rows/s", title="Bare sessions, 300 rows (VNNI)", ylim=(0, None)
    )
    axes.legend(fontsize=8)


def reliability(axes: "Axes") -> None:
    """The share of right answers over the score."""
    rows = table("quality.md", "Can you trust the score?")
    axes.plot([0, 1], [0, 1], color="#999", linestyle="--")
    sizes = [max(12.0, float(row[1]) / 4) for row in rows]
    scores, right = [float(row[2]) for row in rows], [float(row[3]) for row in rows]
    axes.scatter(scores, right, s=sizes, color=BLUES[2])
    axes.set(xlabel="mean score", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Reliability: the larger a dot, the more rows")


def study(axes: "Axes") -> None:
    """What each method gives over the plain recipe, in points."""
    rows = [row for row in table("quality.md", "What each training method gave") if row[0] != "plain"]
    for offset, column, name, colour in ((-0.2, 3, "micro-F1", BLUES[2]), (0.2, 6, "AUPRC", ORANGE)):
        places = [place + offset for place in range(len(rows))]
        axes.barh(places, [float(row[column]) for row in rows], height=0.4, color=colour, label=name)
    axes.axvspan(-1.56, 1.56, color="#999", alpha=0.25, label="distance between the plain seeds")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="points over the plain recipe", title="What each training method gave")
    axes.legend(fontsize=8)


def _groups(axes: "Axes", names: list[str], values: list[list[float]]) -> None:
    """Three bars for each name: 1, 16 and 64 connections."""
    for place, connections in enumerate((1, 16, 64)):
        places = [row + 0.27 * (place - 1) for row in range(len(names))]
        numbers = [row[place] for row in values]
        bars = axes.barh(places, numbers, 0.27, color=BLUES[place], label=f"{connections} at a time")
        axes.bar_label(bars, fmt="%.1f", fontsize=6, padding=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=3)


PICTURES: Final = {
    "ablation": (ablation, (9, 4.5)),
    "ceiling": (ceiling, (7, 4)),
    "reliability": (reliability, (5, 4.5)),
    "study": (study, (9, 6.5)),
}


def main(argv: list[str] | None = None) -> int:
    CommandParser("docs.plots", __doc__).parse_args(argv)
    import matplotlib.pyplot as plt

    plt.switch_backend("svg")
    plt.rcParams.update({"svg.hashsalt": "kore", "svg.fonttype": "none"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    for name, (draw, size) in PICTURES.items():
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes)
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
    for name, drawn in DRAWN.items():
        shutil.copyfile(drawn, IMAGES / f"{name}.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
