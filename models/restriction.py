"""Which relations a pair of entity types admits, learned from labelled rows: nobody is born in a person.

A bundle may carry such a restriction; its members' probabilities of all other relations then are 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.example import ENTITY_TYPES, EntityType, Example
from models.labels import NO_RELATION, RELATIONS
from models.rows import LabelledExample

TypeRestriction = dict[EntityType, dict[EntityType, list[str]]]
"""Subject type -> object type -> the relations that this pair admits. A pair that is not in it admits all
30."""


def learn_restriction(rows: Sequence[LabelledExample]) -> TypeRestriction:
    """Every pair of types that occurs in the rows, with the relations that it occurs with and `no_relation`.

    A row that lacks a type may be of any pair that its other type fits, so all of them admit its relation:
    whatever is missing, the restriction never forbids a row that it was learned from.
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

    An unknown type restricts nothing: with the subject's type alone, what is admitted is what any pair with
    that subject type admits, and a pair that is not listed admits all 30.
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
        """The relations that the example's types admit, shape (30,); None where all are."""
        return self._masks.get(_types(example))


def _types(example: Example) -> tuple[EntityType | None, EntityType | None]:
    return example.subject_entity.type, example.object_entity.type
