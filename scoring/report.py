"""The report on labelled rows: one HTML file that needs no other file."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from models.labels import RELATIONS
from models.reliability_plot import reliability_plot
from scoring.evaluation import Evaluation

PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }} body {{ background: #fff; }}
table {{ border-collapse: collapse; }} .wide {{ overflow-x: auto; }}
th, td {{ padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
.confusion {{ font-size: .7rem; }} .confusion td {{ padding: .1rem .3rem; border: 1px solid #ddd; }}
.confusion th {{ writing-mode: sideways-lr; text-align: left; padding: .3rem 0; }}
</style>
</head>
<body>
<h1>{title}</h1>
{facts}
<h2>Relation by relation</h2>
{relations}
<h2>Confusion</h2>
<p>Each row is a true relation, each column a predicted one. The number counts examples. A dark cell has a
large share of its row.</p>
<div class="wide">{confusion}</div>
<h2>Reliability</h2>
<p>Each bar is the share of right predictions among those whose score falls into the bin. On the diagonal,
score and accuracy are equal.</p>
{reliability}
</body>
</html>
"""


def render(title: str, facts: Mapping[str, object], evaluation: Evaluation) -> str:
    """The page.

    Args:
        title: names the output.
        facts: more lines for the first table, by name.
    """
    headline = {
        "micro-F1 (without no_relation)": f"{evaluation.micro_f1:.2f}",
        "AUPRC": f"{evaluation.auprc:.2f}",
        "accuracy": f"{100 * evaluation.accuracy:.2f} %",
        "calibration error": f"{100 * evaluation.reliability.calibration_error:.2f} %",
        "labelled rows": f"{evaluation.rows:,}",
    }
    return PAGE.format(
        title=escape(title),
        facts=_table([], [[name, str(value)] for name, value in (headline | dict(facts)).items()]),
        relations=_table(
            ["relation", "rows", "predicted", "right", "precision", "recall", "F1"], _relations(evaluation)
        ),
        confusion=_confusion(evaluation),
        reliability=reliability_plot(evaluation.reliability),
    )


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [_table_row(header, "th")] if header else []
    return f"<table>{''.join([*rows, *(_table_row(line, 'td') for line in lines)])}</table>"


def _table_row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _relations(evaluation: Evaluation) -> list[list[str]]:
    confusion = evaluation.confusion
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
            _percent(right, predicted),
            _percent(right, true),
            _percent(2 * right, true + predicted),
        ]
        for relation, true, predicted, right in counts
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"


def _confusion(evaluation: Evaluation) -> str:
    counts = evaluation.confusion
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    rows = ["<tr><td></td>" + "".join(f"<th>{relation}</th>" for relation in RELATIONS) + "</tr>"]
    for true, relation in enumerate(RELATIONS):
        cells = []
        for predicted, count in enumerate(counts[true].tolist()):
            share = shares[true, predicted]
            title = f"{relation} as {RELATIONS[predicted]}: {count} ({100 * share:.1f} %)"
            style = f"background: rgb(39 75 122 / {share:.3f}); color: {'#fff' if share > 0.5 else '#222'}"
            cells.append(f'<td style="{style}" title="{title}">{count}</td>' if count else "<td></td>")
        rows.append(f"<tr><td>{relation}</td>{''.join(cells)}</tr>")
    return f'<table class="confusion">{"".join(rows)}</table>'
