"""The order of a checkpoint's labels, and its head's rows in KLUE's order.

KLUE and the competition number the same 30 relations differently. A head in the wrong order answers wrongly
without an error.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from export.errors import InvalidCheckpoint
from export.options import LabelOrder
from models.labels import COMPETITION_RELATIONS, RELATION_IDS, RELATIONS
from models.metrics import micro_f1
from training.model.heads import RelationClassifier

ORDERS: Final[dict[LabelOrder, tuple[str, ...]]] = {"klue": RELATIONS, "competition": COMPETITION_RELATIONS}
FAR_BETTER: Final = 10.0
"""Points of micro-F1. A trained head has some 60 in its own order and below 15 in the other one."""


def names_of(id2label: dict[int, str]) -> tuple[str, ...] | None:
    """The 30 relations in the order of a `config.json`; None if it has no names.

    Raises:
        ValueError: they are not the 30 relations of KLUE.
    """
    names = [id2label.get(place) for place in range(len(id2label))]
    if len(names) != len(RELATIONS):
        raise ValueError(f"id2label: {len(names)} labels found, KLUE's {len(RELATIONS)} are required")
    if names in ([f"{prefix}{place}" for place in range(len(RELATIONS))] for prefix in ("LABEL_", "")):
        return None
    for place, name in enumerate(names):
        if name not in RELATION_IDS:
            raise ValueError(f"id2label: {place} is {name!r}, which is none of KLUE's 30 relations")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"id2label: {twice!r} is there twice")
    return tuple(map(str, names))


def named(order: Sequence[str]) -> str:
    """An order of the 30 relations, for a person."""
    return next(
        (f"the {name} order" for name, relations in ORDERS.items() if tuple(order) == relations),
        "an order of its own",
    )


@torch.no_grad()
def put_in_klue_order(model: PreTrainedModel, order: Sequence[str]) -> None:
    """Permute the rows of each head, so that its logits are in KLUE's order.

    Args:
        order: the relation of each row.
    """
    rows = torch.tensor([order.index(relation) for relation in RELATIONS])
    for head in _heads(model):
        head.weight.copy_(head.weight[rows].clone())
        head.bias.copy_(head.bias[rows].clone())


def check_order(checkpoint: str, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    """Score an unnamed head in both orders.

    Args:
        probabilities: of a head that is taken to be in KLUE's order, shape (rows, 30), or (rows, exits, 30),
            of which the last exit is scored.
        labels: shape (rows,).

    Returns:
        A note with both scores.

    Raises:
        InvalidCheckpoint: the competition's order is far better.
    """
    answers = probabilities.reshape(len(labels), -1, len(RELATIONS))[:, -1].argmax(axis=1)
    competition = np.array([RELATION_IDS[relation] for relation in COMPETITION_RELATIONS])
    klue_f1, competition_f1 = micro_f1(labels, answers), micro_f1(labels, competition[answers])
    figures = (
        f"{checkpoint}: id2label has no names; over {len(labels)} rows of --data micro-F1 is "
        f"{klue_f1:.2f} in the klue order and {competition_f1:.2f} in the competition order"
    )
    if competition_f1 - klue_f1 > FAR_BETTER:
        raise InvalidCheckpoint(f"checkpoint {figures}; give --label-order competition")
    sure = klue_f1 - competition_f1 > FAR_BETTER
    return f"{figures}; {'klue is taken' if sure else 'klue is taken, but --label-order should say it'}"


def _heads(model: PreTrainedModel) -> list[nn.Linear]:
    if isinstance(model, RelationClassifier):
        return model.heads
    classifier = model.classifier
    return [classifier if isinstance(classifier, nn.Linear) else classifier.out_proj]
