"""Which relations a pair of entity types allows, learned from labelled rows: no birthplace is a person.

A bundle can have such a restriction. All other relations then get probability 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.example import ENTITY_TYPES, EntityType, Example
from models.labels import NO_RELATION, RELATIONS
from models.rows import LabelledExample

TypeRestriction = dict[EntityType, dict[EntityType, list[str]]]
"""Subject type -> object type -> the relations that this pair allows. A missing pair allows all 30."""


def learn_restriction(rows: Sequence[LabelledExample]) -> TypeRestriction:
    """Each pair of types in the rows, with the relations that it occurs with and `no_relation`.

    A row that lacks a type counts for every pair that its other type fits. So the restriction never forbids
    a row that it was learned from.
    """
    seen = {(*_types(row.example), RELATIONS[row.label_id]) for row in rows}
    restriction: TypeRestriction = {}
    for subject, object_ in sorted(
        {(subject, object_) for subject, object_, _ in seen if subject and object_}
    ):
        admitted = {relation for s, o, relation in seen if s in (None, subject) and o in (None, object_)} | {
            NO_RELATION
        }
        restriction.setdefault(subject, {})[object_] = [
            relation for relation in RELATIONS if relation in admitted
        ]
    return restriction


class TypeMask:
    """A restriction as masks over the 30 relations.

    An unknown type counts as every type: with only the subject's type known, a relation is allowed if any
    pair with that subject type allows it.
    """

    def __init__(self, restriction: TypeRestriction) -> None:
        pairs: dict[tuple[EntityType | None, EntityType | None], NDArray[np.bool_]] = {
            (subject, object_): np.isin(RELATIONS, [NO_RELATION, *admitted])
            for subject, admitted_by_object in restriction.items()
            for object_, admitted in admitted_by_object.items()
        }
        self._masks = dict(pairs)
        for known in ENTITY_TYPES:
            for half, wholes in (
                ((known, None), [(known, other) for other in ENTITY_TYPES]),
                ((None, known), [(other, known) for other in ENTITY_TYPES]),
            ):
                if all(whole in pairs for whole in wholes):
                    self._masks[half] = np.any([pairs[whole] for whole in wholes], axis=0)

    def allowed(self, example: Example) -> NDArray[np.bool_] | None:
        """The relations that the example's types allow, shape (30,); None for all."""
        return self._masks.get(_types(example))


def _types(example: Example) -> tuple[EntityType | None, EntityType | None]:
    return example.subject_entity.type, example.object_entity.type
