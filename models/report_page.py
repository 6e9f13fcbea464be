"""The parts of a report: one HTML file that needs no other file. Scoring, training and load tests write such
reports."""

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.labels import RELATIONS
from models.metrics import Reliability
from models.reliability_plot import reliability_plot

STYLE: Final = """\
body { font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #222; }
body { background: #fff; } h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } .best td { background: #f6e8da; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; } mark { background: #d9e3f0; }
.sentence td:last-child { text-align: left; } .object { background: #f6e0c8; }
.kept { color: #17652c; } .broken { color: #b3261e; font-weight: bold; }
.confusion { font-size: .7rem; } .confusion td { padding: .1rem .3rem; border: 1px solid #ddd; }
.confusion .right { outline: 2px solid #b8621b; outline-offset: -2px; }
.confusion th { writing-mode: sideways-lr; text-align: left; padding: .3rem 0; }
"""

RELATION_COLUMNS: Final = ("relation", "rows", "predicted", "right", "precision", "recall", "F1")


def page(title: str, *parts: str) -> str:
    """The page: its title and its parts, which are HTML."""
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n"
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n'


def section(heading: str, *parts: str) -> str:
    """A heading and what is below it, which is HTML."""
    return "\n".join([f"<h2>{escape(heading)}</h2>", *parts])


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def code(text: str) -> str:
    """Plain text with its lines and spaces, to copy."""
    return f"<pre>{escape(text)}</pre>"


def table(header: Sequence[str], lines: Sequence[Sequence[str]], best: int | None = None) -> str:
    """A table of plain text.

    Args:
        header: the columns' names; empty: no header.
        best: index of the line to stress.
    """
    rows = [_row(header, "th")] if header else []
    rows += [_row(line, "td", "best" if index == best else "") for index, line in enumerate(lines)]
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def picture(svg: str) -> str:
    """An SVG file's text as part of a page."""
    return svg[svg.index("<svg") :]


def quality(confusion: NDArray[np.int64], reliability: Reliability) -> list[str]:
    """The sections that show how labelled rows were predicted.

    Args:
        confusion: rows by true and by predicted relation, shape (30, 30).
    """
    return [
        section(
            "Relation by relation",
            table(RELATION_COLUMNS, relation_lines(confusion)),
        ),
        section(
            "Confusion",
            paragraph(
                "Each row is a true relation, each column a predicted one. The number counts examples. A "
                "dark cell has a large share of its row. The framed cells of the diagonal are right."
            ),
            f'<div class="wide">{_confusion(confusion)}</div>',
        ),
        section(
            "Reliability",
            paragraph(
                "Each bar is the share of right predictions among those whose score falls into the bin. On "
                "the diagonal, score and accuracy are equal."
            ),
            reliability_plot(reliability),
            table(["score", "rows", "right", "right, %", "mean score"], _bins(reliability)),
        ),
    ]


def _row(cells: Sequence[str], tag: str, style: str = "") -> str:
    start = f'<tr class="{style}">' if style else "<tr>"
    return f"{start}{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def relation_lines(confusion: NDArray[np.int64]) -> list[list[str]]:
    """A line of `RELATION_COLUMNS` for each relation. The confusion matrix is as in `quality`."""
    counts = zip(
        RELATIONS,
        confusion.sum(axis=1).tolist(),
        confusion.sum(axis=0).tolist(),
        confusion.diagonal().tolist(),
        strict=True,
    )
    return [
        [
            relation,
            *(f"{count:,}" for count in (true, predicted, right)),
            percent(right, predicted),
            percent(right, true),
            percent(2 * right, true + predicted),
        ]
        for relation, true, predicted, right in counts
    ]


def _bins(reliability: Reliability) -> list[list[str]]:
    width = 1 / len(reliability.rows)
    bins = zip(reliability.rows.tolist(), reliability.right.tolist(), reliability.scores, strict=True)
    return [
        [
            f"{index * width:g} to {(index + 1) * width:g}",
            f"{rows:,}",
            f"{right:,}",
            percent(right, rows),
            f"{scores / rows:.3f}" if rows else "–",
        ]
        for index, (rows, right, scores) in enumerate(bins)
    ]


def percent(part: int, whole: int) -> str:
    """A share in percent, without the sign."""
    return f"{100 * part / whole:.1f}" if whole else "–"


def _confusion(counts: NDArray[np.int64]) -> str:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    rows = ["<tr><td></td>" + "".join(f"<th>{relation}</th>" for relation in RELATIONS) + "</tr>"]
    for true, relation in enumerate(RELATIONS):
        cells = []
        for predicted, count in enumerate(counts[true].tolist()):
            share = shares[true, predicted]
            right = ' class="right"' if true == predicted else ""
            title = f"{relation} as {RELATIONS[predicted]}: {count} ({100 * share:.1f} %)"
            style = f"background: rgb(39 75 122 / {share:.3f}); color: {'#fff' if share > 0.5 else '#222'}"
            shown = f'<td{right} style="{style}" title="{title}">{count}</td>'
            cells.append(shown if count or right else "<td></td>")
        rows.append(f"<tr><td>{relation}</td>{''.join(cells)}</tr>")
    return f'<table class="confusion">{"".join(rows)}</table>'
