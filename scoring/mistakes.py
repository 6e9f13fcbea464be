"""The most confident wrong predictions of a run, with their sentences."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from models.example import Entity, Example, Prediction
from models.labels import RELATIONS
from scoring.rows import Row

KEPT: Final = 25
"""Mistakes that the report shows."""
AROUND: Final = 150
"""Characters of a long sentence that are shown before the first and after the last entity, and between."""

Mistake = Mapping[str, Any]
"""`row`, `true`, `predicted`, `score`, `html`: the sentence with its entities marked. It is kept as JSON."""


def most_confident(before: Sequence[Mistake], answers: Iterable[tuple[Row, Prediction]]) -> list[Mistake]:
    """The mistakes with the highest scores, of those before and of more rows; the highest first."""
    found = [*before, *_mistakes(answers)]
    return heapq.nsmallest(KEPT, found, key=lambda mistake: (-mistake["score"], mistake["row"]))


def _mistakes(answers: Iterable[tuple[Row, Prediction]]) -> Iterator[Mistake]:
    for row, prediction in answers:
        if row.example is not None and row.label.id is not None and prediction.label_id != row.label.id:
            yield {
                "row": row.number,
                "true": RELATIONS[row.label.id],
                "predicted": prediction.relation,
                "score": prediction.score,
                "html": marked(row.example),
            }


def marked(example: Example) -> str:
    """A sentence as HTML, the subject and the object marked. Long parts without an entity are cut."""
    subject, object_ = example.subject_entity, example.object_entity
    first, last = sorted((subject, object_), key=lambda entity: entity.start_idx)
    between = example.sentence[first.end_idx + 1 : last.start_idx]
    before, after = example.sentence[: first.start_idx], example.sentence[last.end_idx + 1 :]
    cut_before = f"…{before[-AROUND:]}" if len(before) > AROUND else before
    cut_after = f"{after[:AROUND]}…" if len(after) > AROUND else after
    if len(between) > 2 * AROUND:
        between = f"{between[:AROUND]} … {between[-AROUND:]}"

    def entity(which: Entity) -> str:
        style = ' class="object"' if which is object_ else ""
        return f"<mark{style}>{escape(which.word[:AROUND])}</mark>"

    return "".join(
        [escape(cut_before), entity(first), escape(between), entity(last), escape(cut_after)],
    )


def as_table(mistakes: Sequence[Mistake]) -> str:
    """The mistakes as an HTML table."""
    cells = ["row", "score", "predicted", "true", "sentence"]
    lines = [
        [f"{one['row']:,}", f"{one['score']:.3f}", escape(one["predicted"]), escape(one["true"]), one["html"]]
        for one in mistakes
    ]
    head = "".join(f"<th>{cell}</th>" for cell in cells)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f'<table class="sentence"><tr>{head}</tr>{rows}</table>'
