"""A sentence with several entities: which pairs are asked, how they are encoded, what is refused."""

from unicodedata import normalize

import numpy as np
import pytest
from conftest import DEFAULT_BUNDLE
from examples import SENTENCES, TYPES
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.encoding import Encoded, Encoder
from models.example import ENTITY_TYPES, Example, InvalidExample, Prediction
from models.labels import RELATION_IDS, RELATIONS
from models.markers import MARKER_STYLES
from models.pairs import Pairs, example_or_pairs

SENTENCE = "윤가람과 한가온은 2015년에 결혼했고, 새벽바다가 축하했다."
ENTITIES = [
    {"word": "윤가람", "type": "PER"},
    {"word": "2015년", "type": "DAT"},
    {"word": "새벽바다", "type": "ORG"},
    {"word": "한가온"},
]
ROW = {"sentence": SENTENCE, "entities": ENTITIES}


def prediction(relation: str, score: float) -> Prediction:
    probabilities = np.full(len(RELATIONS), (1 - score) / (len(RELATIONS) - 1))
    probabilities[RELATION_IDS[relation]] = score
    return Prediction(probabilities, members=1)


def problems(row: object) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(InvalidExample) as invalid:
        example_or_pairs(row)
    return [(problem.loc, problem.kind) for problem in invalid.value.problems]


def test_every_ordered_pair_is_asked_whose_subject_is_a_person_an_organisation_or_unknown() -> None:
    pairs = example_or_pairs(ROW)
    assert isinstance(pairs, Pairs)
    assert pairs.places == ((0, 1), (0, 2), (0, 3), (2, 0), (2, 1), (2, 3), (3, 0), (3, 1), (3, 2))


@pytest.mark.parametrize("type_", ENTITY_TYPES)
def test_only_persons_and_organisations_are_subjects(type_: str) -> None:
    entities = [{"word": word, "type": type_} for word in ("윤가람", "2015년", "새벽바다")]
    pairs = example_or_pairs(ROW | {"entities": entities})
    assert isinstance(pairs, Pairs)
    assert len(pairs.places) == (6 if type_ in ("PER", "ORG") else 0)


def test_a_pair_is_the_example_that_the_two_entities_make_alone() -> None:
    pairs = example_or_pairs(ROW)
    assert isinstance(pairs, Pairs)
    for subject, object_ in pairs.places:
        alone = Example.from_row(
            {"sentence": SENTENCE, "subject_entity": ENTITIES[subject], "object_entity": ENTITIES[object_]}
        )
        assert pairs.example(subject, object_) == alone


def test_a_decomposed_sentence_has_the_same_pairs() -> None:
    sent = normalize("NFD", SENTENCE)
    start = sent.index(normalize("NFD", "한가온"))
    spans = [
        *ENTITIES[:3],
        {"start_idx": start, "end_idx": start + len(normalize("NFD", "한가온")) - 1},
    ]
    assert example_or_pairs({"sentence": sent, "entities": spans}) == example_or_pairs(ROW)


def test_a_row_without_entities_is_an_example() -> None:
    row = {"sentence": SENTENCE, "subject_entity": ENTITIES[0], "object_entity": ENTITIES[3]}
    assert example_or_pairs(row) == Example.from_row(row)


def test_relations_come_highest_score_first_without_no_relation() -> None:
    pairs = example_or_pairs(ROW | {"entities": ENTITIES[:3]})
    assert isinstance(pairs, Pairs)
    asked = [
        prediction("per:spouse", 0.6),
        prediction("no_relation", 0.9),
        prediction("org:members", 0.8),
        prediction("org:founded", 0.5),
    ]
    document = pairs.document(asked, top_k=2, min_score=0.6)
    assert document["pairs"] == 4
    assert [(one["subject"], one["object"], one["relation"]) for one in document["relations"]] == [
        (2, 0, "org:members"),
        (0, 1, "per:spouse"),
    ]
    assert list(document["relations"][0]) == [
        "subject",
        "object",
        "relation",
        "score",
        "probabilities",
        "members",
        "truncated",
    ]
    assert len(document["relations"][0]["probabilities"]) == 2


def test_a_rows_own_min_score_counts_before_the_requests() -> None:
    pairs = example_or_pairs(ROW | {"entities": ENTITIES[:2], "min_score": 0.7})
    assert isinstance(pairs, Pairs)
    assert pairs.document([prediction("per:title", 0.6)])["relations"] == []
    assert len(pairs.document([prediction("per:title", 0.7)], min_score=0.9)["relations"]) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"entities": ENTITIES[:1]}, [(("entities",), "too_short")]),
        ({"entities": [{"word": "윤가람"}] * 17}, [(("entities",), "too_long")]),
        ({"entities": None}, [(("entities",), "list_type")]),
        ({"entities": [ENTITIES[0], "윤가람"]}, [(("entities", 1), "model_type")]),
        ({"entities": [ENTITIES[0], {"word": "문"}]}, [(("entities", 1, "word"), "not_in_sentence")]),
        (
            {"entities": [{"word": "가"}, {"start_idx": 0, "end_idx": 99}, ENTITIES[0]]},
            [(("entities", 0, "word"), "ambiguous_word"), (("entities", 1, "end_idx"), "out_of_range")],
        ),
        (
            {"entities": [*ENTITIES, {"word": "2015"}, {"word": "한가"}]},
            [(("entities", 4), "overlap"), (("entities", 5), "overlap")],
        ),
        ({"min_score": 1.5}, [(("min_score",), "less_than_equal")]),
        ({"sentence": " "}, [(("sentence",), "blank")]),
        ({"subject_entity": ENTITIES[0]}, [(("entities",), "ambiguous")]),
    ],
)
def test_a_bad_row_is_refused_with_every_place(
    changes: dict[str, object], expected: list[tuple[tuple[str | int, ...], str]]
) -> None:
    assert problems(ROW | changes) == expected


def test_an_overlap_names_the_other_entity_and_both_spans() -> None:
    with pytest.raises(
        InvalidExample, match=r"its span \(10-13\) and the span of entity 1 \(10-14\) overlap"
    ):
        example_or_pairs(ROW | {"entities": [*ENTITIES, {"word": "2015"}]})


@pytest.fixture(scope="module", params=MARKER_STYLES)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Of the shipped tokenizer, with a window that cuts some of the sentences."""
    (file,) = (DEFAULT_BUNDLE / "tokenizers").iterdir()
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens(list(MARKER_STYLES[request.param].tokens))
    return Encoder(tokenizer, request.param, 40, pad_token_id=1)


def encoded(encoder: Encoder, example: Example, tokenised: dict[str, list[int]] | None) -> Encoded | str:
    try:
        return encoder.encode(example, tokenised)
    except InvalidExample as error:
        return str(error)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, object]:
    """Two to five spans anywhere in any text, in any order."""
    sentence = draw(SENTENCES.filter(lambda text: len(text) >= 4))
    cuts = draw(st.lists(st.integers(0, len(sentence)), min_size=4, max_size=10, unique=True).map(sorted))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    entities = [{"start_idx": start, "end_idx": stop - 1, "type": draw(TYPES)} for start, stop in spans]
    return {"sentence": sentence, "entities": draw(st.permutations(entities))}


@settings(deadline=None, max_examples=150)
@given(row=rows())
def test_shared_pieces_give_the_tokens_of_each_pair_alone(encoder: Encoder, row: dict[str, object]) -> None:
    try:
        pairs = example_or_pairs(row)
    except InvalidExample:  # a span of white space, or one that splits a character
        assume(False)
    assert isinstance(pairs, Pairs)
    tokenised: dict[str, list[int]] = {}
    for place in pairs.places:
        example = pairs.example(*place)
        alone, shared = encoded(encoder, example, None), encoded(encoder, example, tokenised)
        if isinstance(alone, str) or isinstance(shared, str):
            assert alone == shared
            continue
        assert shared.input_ids.tolist() == alone.input_ids.tolist()
        assert shared.entity_positions.tolist() == alone.entity_positions.tolist()
        assert (shared.second_segment, shared.truncated) == (alone.second_segment, alone.truncated)
