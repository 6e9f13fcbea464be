"""The text of a model card, in Markdown."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from export.card_figures import Answers, CardFigures
from models.bundle import Manifest
from models.labels import NO_RELATION, RELATION_IDS, RELATIONS
from models.metrics import confusion_matrix, micro_f1_of, reliability
from models.reliability_plot import reliability_plot
from models.report_page import RELATION_COLUMNS, percent, relation_lines

RELIABILITY: Final = "reliability.svg"
LENGTHS: Final = (32, 64, 96, 128, 192)
"""Upper ends of the classes of length, in tokens. One more class has all longer rows."""
LEAST: Final = 20
"""Rows of a pair of entity types that is shown."""
CONFUSIONS: Final = 12

LIMITS: Final = """\
- It knows 30 relations and Korean news and encyclopedia sentences. Other kinds of text get worse answers.
- An answer says what a sentence states, not what is true.
- Do not decide about people by its answers alone: a person has to check each one.
- Rare relations have few rows above. Measure them on rows of your own before you rely on them.
"""


@dataclass(frozen=True, slots=True)
class Card:
    """All that a card tells.

    Attributes:
        licence: identifier that model hubs know.
        about: Markdown text of the model's makers.
    """

    manifest: Manifest
    figures: CardFigures
    licence: str
    about: str

    def markdown(self) -> str:
        """The whole card."""
        manifest, figures = self.manifest, self.figures
        source = manifest.source
        parts = [
            f"---\n{self._metadata()}---",
            f"# {manifest.name}: Korean relation extraction",
            "The model reads a Korean sentence with two marked entities. It says which of KLUE's 30 "
            "relations holds between the subject and the object. KoRE Serve serves this folder as it is: "
            "`python -m api --bundle FOLDER`.",
            *([self.about.strip()] if self.about.strip() else []),
            "## Source",
            f"- Encoder: {source.encoder}\n- Data: {source.data}\n"
            + "\n".join(f"- Licence: {licence}" for licence in source.licences),
            "## Quality",
            f"{figures.served.quality.rows:,} labelled rows: {figures.served.data}. micro-F1 leaves out "
            "`no_relation`, as KLUE does. AUPRC is the mean area under the precision-recall curve of the 30 "
            "relations. Layers: what a row costs on average.",
            self._quality(),
            "## By relation",
            _by_relation(figures.served),
            "## By pair of entity types",
            f"Pairs with fewer than {LEAST} rows are left out.",
            _by_types(figures),
            "## By length",
            _by_length(figures),
            "## How far the score can be trusted",
            f"![share of right answers by score]({RELIABILITY})",
            _by_score(figures.served),
            "## What it confuses",
            _confusions(figures.served),
            "## Limits",
            LIMITS.strip(),
        ]
        return "\n\n".join(parts) + "\n"

    def _metadata(self) -> str:
        """YAML, in the form of the Hugging Face hub's model cards. JSON text is YAML too."""
        quality = self.figures.served.quality
        results = [
            {
                "task": {"type": "text-classification", "name": "relation extraction"},
                "dataset": {"name": "KLUE-RE rows held out from training", "type": "klue", "config": "re"},
                "metrics": [
                    {
                        "type": "f1",
                        "name": "micro-F1 without no_relation",
                        "value": round(quality.micro_f1, 2),
                    },
                    {"type": "auprc", "name": "AUPRC", "value": round(quality.auprc, 2)},
                ],
            }
        ]
        fields = {
            "language": "ko",
            "license": self.licence,
            "pipeline_tag": "text-classification",
            "library_name": "onnx",
            "tags": ["relation-extraction", "klue", "onnx"],
            "datasets": ["klue"],
            "metrics": ["f1"],
            "model-index": [{"name": self.manifest.name, "results": results}],
        }
        return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())

    def _quality(self) -> str:
        figures = self.figures
        lines = {"as served": figures.served, "every member votes on every row": figures.voting}
        if len(figures.members) > 1:
            lines |= {f"`{name}` alone": answers for name, answers in figures.members.items()}
        lines["as served, entity types not given"] = figures.untyped
        if figures.apart is not None:
            lines["as served, rows whose sentence is in no training row"] = figures.apart
        return _table(
            ("", "rows", "micro-F1", "AUPRC", "layers"),
            (
                (
                    name,
                    f"{len(answers.labels):,}",
                    f"{answers.quality.micro_f1:.2f}",
                    f"{answers.quality.auprc:.2f}",
                    f"{answers.layers:.1f}",
                )
                for name, answers in lines.items()
            ),
        )


def plot(answers: Answers) -> str:
    """The share of right answers over the score, as SVG."""
    return reliability_plot(reliability(answers.labels, answers.probabilities))


def _by_relation(answers: Answers) -> str:
    confusion = confusion_matrix(answers.labels, answers.probabilities.argmax(axis=1))
    lines = ([f"`{relation}`", *figures] for relation, *figures in relation_lines(confusion))
    return _table(RELATION_COLUMNS, lines)


def _by_class(answers: Answers, classes: Sequence[str], shown: Sequence[str]) -> str:
    """Quality by the class of each row, for the classes to show."""
    lines = []
    for name in shown:
        part = answers.of(np.array([each == name for each in classes]))
        confusion = confusion_matrix(part.labels, part.probabilities.argmax(axis=1))
        related = len(part.labels) - confusion[RELATION_IDS[NO_RELATION]].sum()
        f1 = f"{micro_f1_of(confusion):.1f}" if related else "–"
        right = percent(confusion.trace(), len(part.labels))
        lines.append((name, f"{len(part.labels):,}", f"{related:,}", right, f1))
    return _table(("", "rows", "with a relation", "right, %", "micro-F1"), lines)


def _by_types(figures: CardFigures) -> str:
    pairs = [" → ".join(pair) for pair in figures.types]
    shown = [pair for pair, count in Counter(pairs).most_common() if count >= LEAST]
    return _by_class(figures.served, pairs, shown)


def _by_length(figures: CardFigures) -> str:
    names = [f"{low + 1} to {high} tokens" for low, high in pairwise((0, *LENGTHS))]
    names.append(f"more than {LENGTHS[-1]} tokens")
    classes = [names[place] for place in np.searchsorted(LENGTHS, figures.tokens)]
    return _by_class(figures.served, classes, [name for name in names if name in classes])


def _by_score(answers: Answers) -> str:
    bins = reliability(answers.labels, answers.probabilities)
    count = len(bins.rows)
    lines = [
        (
            f"{place / count:g} to {(place + 1) / count:g}",
            f"{rows:,}",
            f"{score / rows:.2f}",
            f"{right / rows:.2f}",
        )
        for place, (rows, score, right) in enumerate(zip(bins.rows, bins.scores, bins.right, strict=True))
        if rows
    ]
    error = f"Calibration error: {100 * bins.calibration_error:.1f} %."
    return _table(("score", "rows", "mean score", "share right"), lines) + f"\n\n{error}"


def _confusions(answers: Answers) -> str:
    confusion = confusion_matrix(answers.labels, answers.probabilities.argmax(axis=1))
    np.fill_diagonal(confusion, 0)
    places = np.argsort(confusion, axis=None)[::-1][:CONFUSIONS]
    lines = []
    for true, predicted in zip(*np.unravel_index(places, confusion.shape), strict=True):
        if count := confusion[true, predicted]:
            lines.append((f"`{RELATIONS[true]}`", f"`{RELATIONS[predicted]}`", f"{count:,}"))
    return _table(("true relation", "answer", "rows"), lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
