"""Files of predictions of the same rows, their vote, and the fit of its weights (`scoring.vote`)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import COMPETITION_TO_OFFICIAL, RELATION_IDS, RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import label_ids, labelled, read_rows, sentence_halves
from models.voting import cross_fitted, fit_weights, weighted_mean_probability
from scoring.compare import read_predictions
from scoring.errors import Refused
from scoring.forms import COLUMNS, LabelOrder

NAMES: Final = ("guid", "id")
SUM_TOLERANCE: Final = 0.01
"""How far the sum of a row's probabilities can be from 1: files that others write have rounded ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Ballot:
    """One file's predictions.

    Attributes:
        lines: what the file says of each row apart from its probabilities.
        probabilities: shape (rows, 30), in KLUE's order.
        relation_ids: the relation that the file gives to each row, shape (rows,).
    """

    path: Path
    lines: list[dict[str, Any]]
    probabilities: NDArray[np.float64]
    relation_ids: NDArray[np.int64]

    @property
    def names(self) -> list[set[str]]:
        """Guid and id of each row, as far as it has them."""
        return [{str(line[key]) for key in NAMES if line.get(key) is not None} for line in self.lines]

    @property
    def is_submission(self) -> bool:
        """A submission has no score next to its relation."""
        return "score" not in self.lines[0]


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """The vote's probabilities, shape (rows, 30), and relations, shape (rows,)."""

    probabilities: NDArray[np.float64]
    relation_ids: NDArray[np.int64]

    def figures(self, labels: NDArray[np.int64]) -> dict[str, float]:
        """Micro-F1 of the relations and AUPRC of the probabilities, times 100."""
        return {"micro_f1": micro_f1(labels, self.relation_ids), "auprc": auprc(labels, self.probabilities)}


def read_ballot(path: Path, label_order: LabelOrder) -> Ballot:
    """Read a file of predictions with all 30 probabilities.

    Raises:
        Refused: it is something else, or a row lacks probabilities.
    """
    lines, probabilities = [], []
    for number, line in enumerate(read_predictions(path, None, label_order), start=1):
        given = line.pop("probabilities")
        if given.keys() != RELATION_IDS.keys():
            raise Refused(
                f"{path}: row {number} has {len(given)} of the 30 probabilities; score again with --top-k 30"
            )
        row = [float(given[relation]) for relation in RELATIONS]
        if not (min(row) >= 0 and abs(sum(row) - 1) <= SUM_TOLERANCE):
            raise Refused(f"{path}: row {number}: its probabilities must be from 0 to 1 and sum to 1")
        lines.append(line)
        probabilities.append(row)
    if not lines:
        raise Refused(f"{path}: it has no predictions")
    relation_ids = np.array([RELATION_IDS[line["relation"]] for line in lines])
    return Ballot(path, lines, np.array(probabilities), relation_ids)


def require_same_rows(path: Path, names: Sequence[set[str]], first: Ballot) -> None:
    """Raises Refused if a file does not have the rows of the first file in the same order.

    Args:
        names: guid and id of each row in the file `path`, if it has them.
    """
    if len(names) != len(first.lines):
        raise Refused(
            f"{path} has {len(names)} rows, {first.path} has {len(first.lines)}; name files of the same rows"
        )
    for number, (ours, theirs) in enumerate(zip(first.names, names, strict=True), start=1):
        if ours and theirs and not ours & theirs:
            raise Refused(
                f"row {number} is {max(ours)} in {first.path} and {max(theirs)} in {path}; "
                "name files of the same rows in the same order"
            )


def vote(ballots: Sequence[Ballot], weights: NDArray[np.float64], hard: bool = False) -> Vote:
    """Count the votes.

    Args:
        weights: one for each file, shape (files,).
        hard: each file votes for its relation, and the mean probability breaks ties.
    """
    mean = weighted_mean_probability(np.stack([ballot.probabilities for ballot in ballots]), weights)
    if not hard:
        return Vote(mean, mean.argmax(axis=1))
    counts = np.zeros(mean.shape)
    for ballot, weight in zip(ballots, weights, strict=True):
        counts[np.arange(len(counts)), ballot.relation_ids] += weight
    # sums of weights such as 0.1 + 0.2 and 0.3 are a tie
    tied = counts >= counts.max(axis=1, keepdims=True) - 1e-9 * weights.sum()
    return Vote(mean, np.where(tied, mean, -1).argmax(axis=1))


def fit(ballots: Sequence[Ballot], rows: Path) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The fitted weights, which sum to 1, and the figures of each file and each vote.

    Args:
        rows: the files' rows with labels.

    Raises:
        Refused, InvalidRows: it cannot be read, has other rows, or too few sentences.
    """
    read = list(read_rows(rows))
    names = [{str(name) for name in (row.guid, row.id) if name is not None} for row in read]
    require_same_rows(rows, names, ballots[0])
    examples = [labelled(row, rows) for row in read]
    labels = label_ids(examples)
    members = np.stack([ballot.probabilities for ballot in ballots])
    weights = fit_weights(members, labels)
    weights /= weights.sum()
    crossed = cross_fitted(members, labels, sentence_halves(examples))
    votes = {
        "equal_weights": vote(ballots, np.ones(len(ballots))),
        "fitted": vote(ballots, weights),
        "cross_fitted": Vote(crossed, crossed.argmax(axis=1)),
    }
    figures = {
        "files": [Vote(each.probabilities, each.relation_ids).figures(labels) for each in ballots],
        **{name: each.figures(labels) for name, each in votes.items()},
    }
    return weights, figures


def documents(ballots: Sequence[Ballot], result: Vote) -> list[dict[str, Any]]:
    """The vote as lines of JSONL, with the names of the rows."""
    lines = []
    for number, row in enumerate(result.probabilities):
        said = [ballot.lines[number] for ballot in ballots]
        names = {key: line[key] for key in NAMES for line in said if line.get(key) is not None}
        chosen = result.relation_ids[number]
        lines.append(
            {
                **names,
                "relation": RELATIONS[chosen],
                "score": float(row[chosen]),
                "probabilities": {RELATIONS[i]: float(row[i]) for i in np.argsort(-row, kind="stable")},
                "members": sum(line.get("members", 1) for line in said),
                "truncated": any(line.get("truncated", False) for line in said),
            }
        )
    return lines


def submission(ballots: Sequence[Ballot], result: Vote, label_order: LabelOrder) -> bytes:
    """The vote as a submission."""
    order = COMPETITION_TO_OFFICIAL if label_order == "competition" else range(len(RELATIONS))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS["submission"])
    for line, row, chosen in zip(ballots[0].lines, result.probabilities, result.relation_ids, strict=True):
        writer.writerow([line["id"], RELATIONS[chosen], [float(row[index]) for index in order]])
    return text.getvalue().encode()
