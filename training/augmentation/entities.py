"""Entity masking and entity swap: the two methods that change the entities themselves."""

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from models.example import Entity, Example, Mention
from models.markers import TYPE_WORDS
from training.augmentation.variants import Augmentation

UNTYPED_WORD = "대상"

REVERSED = {
    "per:spouse": "per:spouse",
    "per:siblings": "per:siblings",
    "per:alternate_names": "per:alternate_names",
    "org:alternate_names": "org:alternate_names",
    "per:parents": "per:children",
    "per:children": "per:parents",
    "org:members": "org:member_of",
    "org:member_of": "org:members",
    "per:employee_of": "org:top_members/employees",
    "org:top_members/employees": "per:employee_of",
}
"""Each relation with the relation from object to subject that follows from it, by KLUE's definitions.

Some pairs of KLUE's training set are labelled in both directions. How often the annotators agree with this
table: per:spouse 206 of 211, per:alternate_names 22 of 24, org:alternate_names 48 of 53, per:employee_of 167
of 189, org:top_members/employees 167 of 186, per:siblings 24 of 27, per:children 75 of 84, per:parents 76 of
87, org:member_of 25 of 36, org:members 25 of 38. The other pairs are mostly labelled no_relation.

Three relations are left out. Two symmetric ones, because the annotators agree only half of the time:
per:other_family 34 of 58, per:colleagues 30 of 57. And no_relation, because no relation in one direction
says nothing about the other direction.
"""

SUBJECT_TYPES = {"per": "PER", "org": "ORG"}


class EntityMask(Augmentation):
    """Replace an entity by the Korean word for its type (사람, 단체, …). Only the context shows the relation.

    The words are those of the typed markers (models/markers.py). An entity without a type becomes 대상. The
    particle after the entity stays, even if it does not fit the new word.
    """

    method: Literal["entity_mask"] = "entity_mask"
    entity: Literal["either", "subject", "object", "both"] = Field(
        "either", description="Which entity is masked; `either` draws one of the two."
    )
    placeholder: str | None = Field(
        None, description="Text that replaces the entity; by default the Korean word for its type."
    )

    @field_validator("placeholder")
    @classmethod
    def _check_placeholder(cls, placeholder: str | None) -> str | None:
        if placeholder is not None and not placeholder.strip():
            raise ValueError("a placeholder that is not blank is required")
        return placeholder

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        which = ("subject", "object")[generator.integers(2)] if self.entity == "either" else self.entity
        subject, object_ = example.subject_entity, example.object_entity
        subject_word = self._word(subject) if which in ("subject", "both") else subject.word
        object_word = self._word(object_) if which in ("object", "both") else object_.word
        subject_leads = subject.start_idx < object_.start_idx
        (leading, first), (trailing, second) = sorted(
            [(subject, subject_word), (object_, object_word)], key=lambda placed: placed[0].start_idx
        )
        head = example.sentence[: leading.start_idx] + first
        between = example.sentence[leading.end_idx + 1 : trailing.start_idx]
        mentions = [
            _mention(leading, first, leading.start_idx),
            _mention(trailing, second, len(head + between)),
        ]
        masked = head + between + second + example.sentence[trailing.end_idx + 1 :]
        return Example.resolve(masked, *(mentions if subject_leads else reversed(mentions)))

    def _word(self, entity: Entity) -> str:
        return self.placeholder or (TYPE_WORDS[entity.type] if entity.type else UNTYPED_WORD)


class EntitySwap(Augmentation):
    """Exchange subject and object where the relation is symmetric or has an inverse (`REVERSED`).

    The sentence stays. A row is left out when the type of its new subject does not fit the new relation:
    in KLUE-RE the subjects of per: are persons and those of org: are organisations.
    """

    method: Literal["entity_swap"] = "entity_swap"

    def relation(self, relation: str) -> str | None:
        return REVERSED.get(relation)

    def fits(self, example: Example, relation: str) -> bool:
        return example.object_entity.type in (None, SUBJECT_TYPES[relation.partition(":")[0]])

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        return Example(example.sentence, example.object_entity, example.subject_entity)


def _mention(entity: Entity, word: str, start: int) -> Mention:
    return Mention(word, start, start + len(word) - 1, entity.type)
