"""What an example accepts, fills in and refuses, and how a prediction is read."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.example import Entity, Example, InvalidExample, Mention, Prediction, Problem
from models.labels import RELATIONS

SENTENCE = "강하늘은 이름난 무신이다."
SUBJECT: dict[str, Any] = {"word": "강하늘", "start_idx": 0, "end_idx": 2, "type": "PER"}
OBJECT: dict[str, Any] = {"word": "무신", "start_idx": 9, "end_idx": 10, "type": "POH"}


def row(**changes: Any) -> dict[str, Any]:
    """A good row with some of its fields replaced."""
    return {"sentence": SENTENCE, "subject_entity": SUBJECT, "object_entity": OBJECT, **changes}


def without(entity: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in entity.items() if key not in keys}


def problems_of(document: dict[str, Any]) -> list[Problem]:
    with pytest.raises(InvalidExample) as refused:
        Example.from_row(document)
    return list(refused.value.problems)


def only_problem(document: dict[str, Any]) -> Problem:
    (problem,) = problems_of(document)
    return problem


def faults_of(document: dict[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    return [(problem.loc, problem.kind) for problem in problems_of(document)]


def spans(sentence: str, subject: tuple[int, int], object_: tuple[int, int]) -> Example:
    return Example.resolve(sentence, Mention(None, *subject), Mention(None, *object_))


def test_a_row_gives_an_example() -> None:
    example = Example.from_row(row())
    assert example == Example(SENTENCE, Entity("강하늘", 0, 2, "PER"), Entity("무신", 9, 10, "POH"))


def test_unknown_keys_are_ignored() -> None:
    extended = row(guid="own-1", label="per:title", source="own", subject_entity={**SUBJECT, "note": None})
    assert Example.from_row(extended) == Example.from_row(row())


@pytest.mark.parametrize(
    ("sentence", "span", "word"),
    [
        pytest.param("가나다 무신", (0, 0), "가", id="one character"),
        pytest.param("가나다 무신", (0, 2), "가나다", id="inclusive end"),
        pytest.param("가나다 무신", (0, 3), "가나다 ", id="a space inside the span"),
        pytest.param("😀강하늘 무신", (1, 3), "강하늘", id="after an emoji"),
        pytest.param(
            "👨\u200d👩\u200d👧강하늘 무신", (5, 7), "강하늘", id="after a joined emoji of five code points"
        ),
        pytest.param("강😀늘 무신", (0, 2), "강😀늘", id="emoji in the word"),
        pytest.param("q\u0301 무신", (0, 0), "q", id="before a mark that composes no character"),
    ],
)
def test_indices_count_code_points_and_the_end_is_inclusive(
    sentence: str, span: tuple[int, int], word: str
) -> None:
    start = sentence.index("무신")
    example = spans(sentence, span, (start, start + 1))
    assert example.subject_entity == Entity(word, *span)
    assert example.object_entity.word == "무신"


def test_the_last_character_can_be_the_end_of_a_span() -> None:
    assert spans(SENTENCE, (0, 2), (9, len(SENTENCE) - 1)).object_entity.word == "무신이다."


def test_the_word_may_be_left_out() -> None:
    assert Example.from_row(row(subject_entity=without(SUBJECT, "word"))) == Example.from_row(row())


def test_the_indices_may_be_left_out_when_the_word_occurs_once() -> None:
    left_out = row(
        subject_entity=without(SUBJECT, "start_idx", "end_idx"),
        object_entity=without(OBJECT, "start_idx", "end_idx"),
    )
    assert Example.from_row(left_out) == Example.from_row(row())


def test_the_type_may_be_left_out() -> None:
    assert Example.from_row(row(subject_entity=without(SUBJECT, "type"))).subject_entity == Entity(
        "강하늘", 0, 2, None
    )


def test_null_means_left_out() -> None:
    nulls = row(
        subject_entity={"word": None, "start_idx": 0, "end_idx": 2, "type": None},
        object_entity={**OBJECT, "start_idx": None, "end_idx": None},
    )
    example = Example.from_row(nulls)
    assert example.subject_entity == Entity("강하늘", 0, 2, None)
    assert example.object_entity == Entity("무신", 9, 10, "POH")


@pytest.mark.parametrize("type_", ["PER", "ORG", "LOC", "DAT", "POH", "NOH"])
def test_every_entity_type_of_klue_is_known(type_: str) -> None:
    assert Example.from_row(row(object_entity={**OBJECT, "type": type_})).object_entity.type == type_


@pytest.mark.parametrize("type_", ["per", "PERSON", "", "PER ", 1, ["PER"], {}, False])
def test_an_unknown_type_is_refused(type_: object) -> None:
    problem = only_problem(row(object_entity={**OBJECT, "type": type_}))
    assert (problem.loc, problem.kind) == (("object_entity", "type"), "literal_error")
    assert "PER, ORG, LOC, DAT, POH, NOH" in problem.message


@pytest.mark.parametrize(
    ("sentence", "word", "count", "places"),
    [
        pytest.param("수원에서 수원까지 온 강하늘", "수원", 2, "0, 5", id="twice"),
        pytest.param("하하하 웃은 강하늘", "하하", 2, "0, 1", id="overlapping"),
        pytest.param("ㅋㅋㅋㅋ 웃은 강하늘", "ㅋㅋ", 3, "0, 1, 2", id="overlapping three times"),
        pytest.param("😀수원 😀수원 강하늘", "수원", 2, "1, 5", id="after emoji"),
    ],
)
def test_an_ambiguous_word_is_refused_with_its_count_and_places(
    sentence: str, word: str, count: int, places: str
) -> None:
    problem = only_problem(
        {"sentence": sentence, "subject_entity": {"word": "강하늘"}, "object_entity": {"word": word}}
    )
    assert (problem.loc, problem.kind) == (("object_entity", "word"), "ambiguous_word")
    assert word in problem.message
    assert f"{count} times" in problem.message
    assert f"start_idx {places}:" in problem.message


def test_a_word_that_occurs_very_often_is_counted_but_not_listed_in_full() -> None:
    problem = only_problem(
        {
            "sentence": "가" * 5000 + " 강하늘",
            "subject_entity": {"word": "강하늘"},
            "object_entity": {"word": "가"},
        }
    )
    assert "5000 times" in problem.message
    assert "0, 1, 2" in problem.message
    assert len(problem.message) < 300


def test_an_ambiguous_word_with_its_indices_is_fine() -> None:
    twice = {"word": "수원", "start_idx": 5, "end_idx": 6}
    example = Example.from_row(
        {
            "sentence": "수원에서 수원까지 온 강하늘",
            "subject_entity": {"word": "강하늘"},
            "object_entity": twice,
        }
    )
    assert example.object_entity.start_idx == 5


def test_a_word_that_is_not_in_the_sentence_is_refused() -> None:
    problem = only_problem(row(object_entity={"word": "소설가"}))
    assert (problem.loc, problem.kind) == (("object_entity", "word"), "not_in_sentence")
    assert "소설가" in problem.message


def test_a_very_long_word_does_not_fill_the_message() -> None:
    assert len(only_problem(row(object_entity={"word": "가" * 10_000})).message) < 200


@pytest.mark.parametrize(("given", "missing"), [("start_idx", "end_idx"), ("end_idx", "start_idx")])
@pytest.mark.parametrize("word", ["무신", None])
def test_one_index_alone_is_refused(given: str, missing: str, word: str | None) -> None:
    problem = only_problem(row(object_entity={"word": word, given: OBJECT[given]}))
    assert (problem.loc, problem.kind) == (("object_entity", missing), "missing")


def test_an_entity_with_neither_word_nor_indices_is_refused() -> None:
    assert faults_of(row(object_entity={"type": "POH"})) == [(("object_entity", "word"), "missing")]


@pytest.mark.parametrize(
    ("start", "end", "keys"),
    [
        pytest.param(-1, 1, ["start_idx"], id="negative start"),
        pytest.param(0, -1, ["end_idx"], id="negative end"),
        pytest.param(-3, -1, ["start_idx", "end_idx"], id="both negative"),
        pytest.param(9, len(SENTENCE), ["end_idx"], id="one past the end"),
        pytest.param(len(SENTENCE), len(SENTENCE), ["start_idx", "end_idx"], id="both past the end"),
        pytest.param(0, 2**63, ["end_idx"], id="wider than an int64"),
        pytest.param(-(2**200), 2**200, ["start_idx", "end_idx"], id="huge"),
    ],
)
@pytest.mark.parametrize("entity", ["subject_entity", "object_entity"])
def test_indices_outside_the_sentence_are_refused(entity: str, start: int, end: int, keys: list[str]) -> None:
    problems = problems_of(row(**{entity: {"start_idx": start, "end_idx": end}}))
    assert [(problem.loc, problem.kind) for problem in problems] == [
        ((entity, key), "out_of_range") for key in keys
    ]
    assert all(f"from 0 to {len(SENTENCE) - 1}" in problem.message for problem in problems)


def test_an_end_before_the_start_is_refused() -> None:
    assert faults_of(row(object_entity={"start_idx": 10, "end_idx": 9})) == [
        (("object_entity", "end_idx"), "out_of_range")
    ]


@pytest.mark.parametrize(
    ("word", "start", "end"),
    [
        pytest.param("무신", 9, 11, id="exclusive end"),
        pytest.param("무신", 8, 9, id="one too early"),
        pytest.param("소설", 9, 10, id="another word"),
        pytest.param("무신 ", 9, 10, id="a space too much"),
    ],
)
def test_a_word_that_disagrees_with_its_span_is_refused(word: str, start: int, end: int) -> None:
    problem = only_problem(row(object_entity={"word": word, "start_idx": start, "end_idx": end}))
    assert (problem.loc, problem.kind) == (("object_entity", "word"), "word_span_mismatch")
    assert repr(word) in problem.message
    assert repr(SENTENCE[start : end + 1]) in problem.message


def test_offsets_in_utf16_units_are_noticed() -> None:
    utf16 = {"word": "강하늘", "start_idx": 2, "end_idx": 4}
    problem = only_problem(
        {"sentence": "😀강하늘은 무신", "subject_entity": utf16, "object_entity": {"word": "무신"}}
    )
    assert problem.kind == "word_span_mismatch"


@pytest.mark.parametrize("word", ["", " ", "\t\n", "\u3000", "\u00a0"])
@pytest.mark.parametrize("indices", [{}, {"start_idx": 4, "end_idx": 4}], ids=["word alone", "with indices"])
def test_an_empty_word_is_refused(word: str, indices: dict[str, int]) -> None:
    assert faults_of(row(object_entity={"word": word, **indices})) == [
        (("object_entity", "word"), "empty_word")
    ]


def test_a_span_of_white_space_is_refused() -> None:
    assert faults_of(row(object_entity={"start_idx": 4, "end_idx": 4})) == [
        (("object_entity", "start_idx"), "empty_word")
    ]


@pytest.mark.parametrize(
    ("subject", "object_"),
    [
        pytest.param((0, 2), (0, 2), id="identical"),
        pytest.param((0, 6), (2, 4), id="object inside subject"),
        pytest.param((2, 4), (0, 6), id="subject inside object"),
        pytest.param((0, 3), (2, 6), id="partial"),
        pytest.param((2, 6), (0, 3), id="partial, object first"),
        pytest.param((0, 2), (2, 6), id="one shared character"),
        pytest.param((2, 6), (0, 2), id="one shared character, object first"),
        pytest.param((0, 2), (0, 6), id="same start"),
    ],
)
def test_overlapping_spans_are_refused(subject: tuple[int, int], object_: tuple[int, int]) -> None:
    with pytest.raises(InvalidExample) as refused:
        spans(SENTENCE, subject, object_)
    (problem,) = refused.value.problems
    assert (problem.loc, problem.kind) == (("object_entity",), "overlap")
    assert f"{subject[0]}-{subject[1]}" in problem.message
    assert f"{object_[0]}-{object_[1]}" in problem.message


@pytest.mark.parametrize(("subject", "object_"), [((0, 2), (3, 6)), ((3, 6), (0, 2))])
def test_touching_spans_are_fine(subject: tuple[int, int], object_: tuple[int, int]) -> None:
    example = spans(SENTENCE, subject, object_)
    assert (example.subject_entity.start_idx, example.object_entity.start_idx) == (subject[0], object_[0])


@pytest.mark.parametrize("code_point", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_a_lone_surrogate_is_not_text(code_point: int) -> None:
    assert faults_of(row(sentence=SENTENCE + chr(code_point))) == [(("sentence",), "surrogate")]


@pytest.mark.parametrize("code_point", [0xD7FF, 0xE000])
def test_the_neighbours_of_the_surrogates_are_text(code_point: int) -> None:
    assert Example.from_row(row(sentence=SENTENCE + chr(code_point))).sentence == SENTENCE + chr(code_point)


def test_a_surrogate_pair_in_json_is_an_emoji() -> None:
    parsed = json.loads(
        r'{"sentence": "\ud83d\ude00강하늘 무신",'
        r' "subject_entity": {"word": "강하늘"}, "object_entity": {"word": "무신"}}'
    )
    assert Example.from_row(parsed).subject_entity.start_idx == 1


@pytest.mark.parametrize("sentence", ["", " ", "\n\t", "\u3000\u00a0"])
def test_a_blank_sentence_is_refused(sentence: str) -> None:
    assert faults_of(row(sentence=sentence)) == [(("sentence",), "blank")]


@pytest.mark.parametrize("sentence", [None, 1, True, ["가"], {"text": "가"}])
def test_a_sentence_that_is_no_string_is_refused(sentence: object) -> None:
    assert faults_of(row(sentence=sentence)) == [(("sentence",), "string_type")]


@pytest.mark.parametrize("field", ["sentence", "subject_entity", "object_entity"])
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    assert faults_of(without(row(), field)) == [((field,), "missing")]


@pytest.mark.parametrize("entity", [None, "강하늘", 3, [], ["강하늘", 0, 2], True])
def test_an_entity_that_is_no_object_is_refused(entity: object) -> None:
    assert faults_of(row(subject_entity=entity)) == [(("subject_entity",), "model_type")]


@pytest.mark.parametrize("word", [1, True, ["강하늘"], {}])
def test_a_word_that_is_no_string_is_refused(word: object) -> None:
    assert faults_of(row(subject_entity={**SUBJECT, "word": word})) == [
        (("subject_entity", "word"), "string_type")
    ]


@pytest.mark.parametrize("index", [True, False, 0.5, "0", [0], {}])
@pytest.mark.parametrize("key", ["start_idx", "end_idx"])
def test_an_index_that_is_no_integer_is_refused(key: str, index: object) -> None:
    assert faults_of(row(subject_entity={**SUBJECT, key: index})) == [(("subject_entity", key), "int_type")]


@pytest.mark.parametrize("key", ["start_idx", "end_idx"])
def test_an_index_can_be_a_whole_number_written_as_a_float(key: str) -> None:
    entity = {**SUBJECT, key: float(SUBJECT[key])}
    assert Example.from_row(row(subject_entity=entity)) == Example.from_row(row())


def test_every_wrong_type_in_an_entity_is_named() -> None:
    wrong = {"word": 1, "start_idx": "0", "end_idx": 2.5, "type": "person"}
    expected = [
        ("word", "string_type"),
        ("start_idx", "int_type"),
        ("end_idx", "int_type"),
        ("type", "literal_error"),
    ]
    assert faults_of(row(subject_entity=wrong)) == [(("subject_entity", key), kind) for key, kind in expected]


def test_problems_of_both_entities_are_named() -> None:
    both = row(subject_entity={**SUBJECT, "end_idx": 99}, object_entity={"word": "소설가"})
    assert faults_of(both) == [
        (("subject_entity", "end_idx"), "out_of_range"),
        (("object_entity", "word"), "not_in_sentence"),
    ]


def test_the_error_reads_as_where_and_what() -> None:
    both = row(subject_entity={**SUBJECT, "end_idx": 99}, object_entity={"word": "소설가"})
    with pytest.raises(
        InvalidExample,
        match=r"^subject_entity\.end_idx: 99 is outside .*; object_entity\.word: '소설가' does not occur",
    ):
        Example.from_row(both)


@pytest.mark.slow
@pytest.mark.skipif("KLUE_RE_DATA" not in os.environ, reason="KLUE_RE_DATA is not set")
@pytest.mark.parametrize("name", ["train.jsonl", "validation.jsonl"])
def test_every_row_of_klue_re_is_accepted(name: str) -> None:
    with Path(os.environ["KLUE_RE_DATA"], name).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert rows
    assert [given["guid"] for given in rows if not is_accepted_as_given(given)] == []


def is_accepted_as_given(given: dict[str, Any]) -> bool:
    example = Example.from_row(given)
    pairs = (
        (example.subject_entity, given["subject_entity"]),
        (example.object_entity, given["object_entity"]),
    )
    return all(
        entity == Entity(mention["word"], mention["start_idx"], mention["end_idx"], mention["type"])
        and entity.word == given["sentence"][mention["start_idx"] : mention["end_idx"] + 1]
        and entity.word == example.sentence[entity.start_idx : entity.end_idx + 1]
        for entity, mention in pairs
    )


def prediction(**probabilities: float) -> Prediction:
    """A prediction with the given probabilities by label id (`at_3=0.5`), and zero elsewhere."""
    values = np.zeros(len(RELATIONS))
    for name, value in probabilities.items():
        values[int(name.removeprefix("at_"))] = value
    return Prediction(values, members=2)


def test_a_prediction_is_its_likeliest_relation() -> None:
    answer = prediction(at_29=0.7, at_0=0.2, at_18=0.1)
    assert (answer.label_id, answer.relation, answer.score, answer.members) == (29, "per:title", 0.7, 2)


def test_the_top_relations_are_in_order_of_probability() -> None:
    answer = prediction(at_0=0.2, at_18=0.1, at_29=0.7)
    assert list(answer.top(2).items()) == [("per:title", 0.7), ("no_relation", 0.2)]


@pytest.mark.parametrize("k", [1, 2, 29, 30])
def test_top_k_gives_k_relations(k: int) -> None:
    top = Prediction(np.random.default_rng(0).dirichlet(np.ones(30)), members=1).top(k)
    assert len(top) == k
    assert list(top.values()) == sorted(top.values(), reverse=True)


def test_all_thirty_probabilities_sum_to_one_and_stay_unrounded() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(30))
    top = Prediction(probabilities, members=1).top(30)
    assert set(top) == set(RELATIONS)
    assert sum(top.values()) == pytest.approx(1, abs=1e-12)
    assert [top[relation] for relation in RELATIONS] == probabilities.tolist()


def test_ties_are_in_label_order_and_the_first_is_the_relation() -> None:
    answer = prediction(at_20=0.4, at_5=0.4, at_9=0.2)
    assert list(answer.top(4)) == [RELATIONS[5], RELATIONS[20], RELATIONS[9], RELATIONS[0]]
    assert answer.relation == next(iter(answer.top(1))) == RELATIONS[5]


def test_a_prediction_is_made_of_plain_numbers() -> None:
    answer = prediction(at_1=1.0)
    assert json.loads(json.dumps([answer.score, answer.top(2)])) == [
        1.0,
        {RELATIONS[1]: 1.0, RELATIONS[0]: 0.0},
    ]


def test_type_faults_of_both_entities_are_listed() -> None:
    with pytest.raises(InvalidExample) as invalid:
        Example.from_row(
            {
                "sentence": "강하늘은 이름난 무신이다.",
                "subject_entity": {"word": 3},
                "object_entity": {"word": 4},
            }
        )
    assert [problem.loc for problem in invalid.value.problems] == [
        ("subject_entity", "word"),
        ("object_entity", "word"),
    ]


def test_an_index_too_long_to_print_is_out_of_range() -> None:
    with pytest.raises(InvalidExample, match="a number of more than 12 digits is outside"):
        Example.resolve("강하늘은 이름난 무신이다.", Mention("강하늘", 10**5000, 10**5000), Mention("무신"))


def test_a_word_of_a_third_of_a_long_sentence_is_refused_without_comparing_it_a_million_times() -> None:
    problem = only_problem(
        {
            "sentence": "a" * 900_000,
            "subject_entity": {"word": "a" * 300_000},
            "object_entity": {"word": "a", "start_idx": 0, "end_idx": 0},
        }
    )
    assert "occurs more than 10 times" in problem.message
