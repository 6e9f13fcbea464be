"""The report on labelled rows: one HTML file that needs no other, its figures drawn as SVG by hand."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from models.labels import RELATIONS
from scoring.figures import BINS, Figures

CELL, NAMES, TOP = 22, 210, 200  # pixels: a cell of the matrix, the names beside it and above it
SIDE, MARGIN = 320, 46  # pixels: the reliability plot and what stands around it

STYLE: Final = """
body { font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } .wide { overflow-x: auto; }
"""


def render(title: str, facts: Mapping[str, object], figures: Figures) -> str:
    """The page.

    Args:
        title: what was scored.
        facts: what else a reader should know, by name.
    """
    headline = {
        "micro-F1 (without no_relation)": f"{figures.micro_f1:.2f}",
        "AUPRC": f"{figures.auprc:.2f}",
        "accuracy": f"{100 * figures.accuracy:.2f} %",
        "calibration error": f"{100 * figures.calibration_error:.2f} %",
        "labelled rows": f"{figures.rows:,}",
    }
    facts_table = [[name, str(value)] for name, value in (headline | dict(facts)).items()]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{_table([], facts_table)}
<h2>Relation by relation</h2>
{_table(["relation", "rows", "predicted", "right", "precision", "recall", "F1"], _relations(figures))}
<h2>Confusion</h2>
<p>A line is the true relation, a column the predicted one. The darker, the larger the share of the line; the number counts rows.</p>
<div class="wide">{_confusion(figures)}</div>
<h2>Reliability</h2>
<p>Of the rows that were predicted with such a score, so many are right. On the diagonal a score means what it says.</p>
{_reliability(figures)}
</body>
</html>
"""


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr>" if header else ""
    return f"<table>{head}{''.join(f'<tr>{_cells(line)}</tr>' for line in lines)}</table>"


def _cells(line: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in line)


def _relations(figures: Figures) -> list[list[str]]:
    right = figures.confusion.diagonal()
    true, predicted = figures.confusion.sum(axis=1), figures.confusion.sum(axis=0)
    return [
        [relation, *(f"{count:,}" for count in counts), *(_percent(part, whole) for part, whole in shares)]
        for index, relation in enumerate(RELATIONS)
        for counts in [(int(true[index]), int(predicted[index]), int(right[index]))]
        for shares in [
            ((counts[2], counts[1]), (counts[2], counts[0]), (2 * counts[2], counts[0] + counts[1]))
        ]
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"


def _confusion(figures: Figures) -> str:
    counts = figures.confusion
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    width, height = NAMES + CELL * len(RELATIONS) + 10, TOP + CELL * len(RELATIONS) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="10">'
    ]
    for index, relation in enumerate(RELATIONS):
        x, y = NAMES + CELL * index, TOP + CELL * index
        parts.append(f'<text x="{NAMES - 6}" y="{y + 15}" text-anchor="end">{escape(relation)}</text>')
        parts.append(f'<text transform="translate({x + 15},{TOP - 6}) rotate(-90)">{escape(relation)}</text>')
        parts.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="none" stroke="#bbb"/>')
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        x, y, share = NAMES + CELL * int(predicted), TOP + CELL * int(true), float(shares[true, predicted])
        title = (
            f"{RELATIONS[true]} as {RELATIONS[predicted]}: {counts[true, predicted]} ({100 * share:.1f} %)"
        )
        ink = "#fff" if share > 0.5 else "#222"
        parts.append(
            f'<g><title>{escape(title)}</title><rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="#274b7a"'
            f' fill-opacity="{share:.3f}" stroke="#ddd"/>'
            f'<text x="{x + CELL / 2:g}" y="{y + 14}" text-anchor="middle" font-size="8" fill="{ink}">'
            f"{counts[true, predicted]}</text></g>"
        )
    return "\n".join([*parts, "</svg>"])


def _reliability(figures: Figures) -> str:
    size, step = SIDE + 2 * MARGIN, SIDE / BINS
    bottom = MARGIN + SIDE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" font-family="sans-serif" font-size="11">',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
    ]
    for index in range(BINS):
        rows = int(figures.bin_rows[index])
        if rows:
            accuracy, score = figures.bin_right[index] / rows, figures.bin_scores[index] / rows
            x, height = MARGIN + step * index, SIDE * accuracy
            parts.append(
                f"<g><title>{rows} rows, mean score {score:.3f}, {100 * accuracy:.1f} % right</title>"
                f'<rect x="{x + 1:.1f}" y="{bottom - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}" fill="#6f8fb8"/>'
                f'<circle cx="{MARGIN + SIDE * score:.1f}" cy="{bottom - height:.1f}" r="4" fill="#b8621b"/></g>'
            )
        parts.append(
            f'<text x="{MARGIN + step * index:.1f}" y="{bottom + 15}" text-anchor="middle">{index / BINS:g}</text>'
        )
        parts.append(
            f'<text x="{MARGIN - 6}" y="{bottom - step * index + 4:.1f}" text-anchor="end">{index / BINS:g}</text>'
        )
    parts.append(
        f'<line x1="{MARGIN}" y1="{bottom}" x2="{MARGIN + SIDE}" y2="{MARGIN}" stroke="#222" stroke-dasharray="4 4"/>'
    )
    parts.append(f'<text x="{MARGIN + SIDE / 2:g}" y="{size - 10}" text-anchor="middle">score</text>')
    parts.append(
        f'<text x="{MARGIN}" y="{MARGIN - 12}">share that is right; the dots stand at the mean score</text>'
    )
    return "\n".join([*parts, "</svg>"])
