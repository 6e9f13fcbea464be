"""The 30 relations, their ids, and the competition's other numbering of them."""

import json
import os
from pathlib import Path

import pytest

from models.labels import COMPETITION_RELATIONS, COMPETITION_TO_OFFICIAL, NO_RELATION, RELATION_IDS, RELATIONS
from models.relations import RELATIONS_IN_WORDS


def test_there_are_thirty_different_relations() -> None:
    assert len(RELATIONS) == 30
    assert len(set(RELATIONS)) == 30


def test_a_relation_is_of_a_person_or_of_an_organisation_or_none() -> None:
    assert {relation.partition(":")[0] for relation in RELATIONS} == {NO_RELATION, "org", "per"}
    assert sum(relation.startswith("org:") for relation in RELATIONS) == 11
    assert sum(relation.startswith("per:") for relation in RELATIONS) == 18


@pytest.mark.parametrize(
    ("label_id", "relation"),
    [
        (0, "no_relation"),
        (1, "org:dissolved"),
        (10, "org:top_members/employees"),
        (12, "per:date_of_birth"),
        (29, "per:title"),
    ],
)
def test_a_label_id_is_the_place_in_the_official_order(label_id: int, relation: str) -> None:
    assert RELATIONS[label_id] == relation
    assert RELATION_IDS[relation] == label_id


def test_every_relation_has_the_id_of_its_place() -> None:
    assert [RELATION_IDS[relation] for relation in RELATIONS] == list(range(30))


def test_the_competition_numbers_the_same_relations() -> None:
    assert sorted(COMPETITION_TO_OFFICIAL) == list(range(30))
    assert sorted(COMPETITION_RELATIONS) == sorted(RELATIONS)


def test_the_competition_agrees_with_the_official_order_at_two_places_only() -> None:
    agreeing = [
        relation
        for relation, official in zip(COMPETITION_RELATIONS, RELATIONS, strict=True)
        if relation == official
    ]
    assert len(agreeing) == 2


@pytest.mark.parametrize(
    ("competition_id", "relation"),
    [
        (0, "no_relation"),
        (1, "org:top_members/employees"),
        (2, "org:members"),
        (4, "per:title"),
        (6, "per:employee_of"),
        (22, "org:dissolved"),
        (29, "per:religion"),
    ],
)
def test_a_competition_id_names_its_relation(competition_id: int, relation: str) -> None:
    assert COMPETITION_RELATIONS[competition_id] == relation
    assert RELATIONS[COMPETITION_TO_OFFICIAL[competition_id]] == relation


@pytest.mark.skipif("KLUE_RE_DATA" not in os.environ, reason="KLUE_RE_DATA is not set")
def test_the_order_is_that_of_the_data_set() -> None:
    relation_list = Path(os.environ["KLUE_RE_DATA"], "relation_list.json")
    assert list(RELATIONS) == json.loads(relation_list.read_text(encoding="utf-8"))["relations"]


def test_every_relation_has_a_name_of_its_own_and_one_sentence_in_korean_and_english() -> None:
    assert [relation.label for relation in RELATIONS_IN_WORDS] == list(RELATIONS)
    for language, hangul in (("ko", True), ("en", False)):
        names = [getattr(relation.name, language) for relation in RELATIONS_IN_WORDS]
        sentences = [getattr(relation.definition, language) for relation in RELATIONS_IN_WORDS]
        assert len(set(names)) == len(set(sentences)) == 30
        for text in names + sentences:
            assert any("가" <= character <= "힣" for character in text) is hangul, text
        for sentence in sentences:
            assert sentence.find(".") == len(sentence) - 1, sentence
