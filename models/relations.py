"""The relations in words, for people: a name and a definition of each, in Korean and in English.

A relation goes from the subject (주체) to the object (대상): `per:parents` says that the object is a parent
of the subject. The words are this project's own and are in relations.tsv.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """The same text in Korean and in English."""

    ko: str
    en: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation in words.

    Attributes:
        label: its label in `models.labels.RELATIONS`.
        name: a few words. No two relations have the same.
        definition: one sentence about the subject and the object.
    """

    label: str
    name: Words
    definition: Words


def _read() -> tuple[Relation, ...]:
    with Path(__file__).with_name("relations.tsv").open(encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file, delimiter="\t")
    return tuple(
        Relation(label, Words(name_ko, name_en), Words(definition_ko, definition_en))
        for label, name_ko, name_en, definition_ko, definition_en in lines
    )


RELATIONS_IN_WORDS: Final = _read()
"""In the order of `models.labels.RELATIONS`."""
