"""Composed and decomposed text: the same example, whichever form the sentence and the words have."""

import itertools
import random
from typing import Any
from unicodedata import normalize

import pytest
from conftest import DEFAULT_BUNDLE
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.composed import ComposedText, compose
from models.encoding import Encoder
from models.example import Example, InvalidExample, Mention, Problem

SENTENCES = [
    pytest.param("강하늘은 이름난 무신이다.", "강하늘", "무신", id="syllables with and without a final"),
    pytest.param(
        "가수 나르샤는 café 뮤즈에서 노래했다.", "나르샤", "café", id="a Latin letter with an accent"
    ),
    pytest.param("값어치 있는 닭갈비는 춘천에서 난다.", "닭갈비", "춘천", id="double finals"),
    pytest.param("소프라노 Nguyễn은 하노이 출신이다.", "Nguyễn", "하노이", id="two accents on a letter"),
    pytest.param("작가 がんば는 도쿄에 산다.", "がんば", "도쿄", id="kana with a voicing mark"),
]
cases = pytest.mark.parametrize(("sentence", "subject", "object_"), SENTENCES)
forms = pytest.mark.parametrize("sentence_form", ["NFC", "NFD"])
word_forms = pytest.mark.parametrize("word_form", ["NFC", "NFD", None])


def entity(sentence: str, word: str, form: str | None) -> dict[str, Any]:
    """A word with its indices in the sentence as given; the word in a form, or left out."""
    sent = normalize("NFD", word) if sentence.count(normalize("NFD", word)) else word
    start = sentence.index(sent)
    named = {} if form is None else {"word": normalize(form, word)}
    return named | {"start_idx": start, "end_idx": start + len(sent) - 1}


def problem(sentence: str, **subject: Any) -> Problem:
    row = {"sentence": sentence, "subject_entity": subject, "object_entity": {"word": "무신"}}
    with pytest.raises(InvalidExample) as refused:
        Example.from_row(row)
    (found,) = refused.value.problems
    return found


@cases
@forms
@word_forms
def test_a_decomposed_example_is_the_composed_one(
    sentence: str, subject: str, object_: str, sentence_form: str, word_form: str | None
) -> None:
    sent = normalize(sentence_form, sentence)
    row = {
        "sentence": sent,
        "subject_entity": entity(sent, subject, word_form),
        "object_entity": entity(sent, object_, word_form),
    }
    example = Example.from_row(row)
    assert example == Example.resolve(sentence, Mention(subject), Mention(object_))
    for found in (example.subject_entity, example.object_entity):
        assert example.sentence[found.start_idx : found.end_idx + 1] == found.word


@cases
@forms
@pytest.mark.parametrize("word_form", ["NFC", "NFD"])
def test_a_word_without_indices_is_found_in_either_form(
    sentence: str, subject: str, object_: str, sentence_form: str, word_form: str
) -> None:
    words = (Mention(normalize(word_form, word)) for word in (subject, object_))
    example = Example.resolve(normalize(sentence_form, sentence), *words)
    assert example == Example.resolve(sentence, Mention(subject), Mention(object_))


def test_one_decomposed_word_in_a_composed_sentence_shifts_the_later_indices() -> None:
    sent = normalize("NFD", "각하") + "와 강하늘은 무신"  # five code points for the first two characters
    example = Example.resolve(sent, Mention("강하늘", 7, 9), Mention("무신", 12, 13))
    assert example == Example.resolve("각하와 강하늘은 무신", Mention("강하늘"), Mention("무신"))


@pytest.mark.parametrize(
    ("sent", "composed"),
    [
        pytest.param("\uf9e1하늘은 무신", "李하늘은 무신", id="a compatibility ideograph"),
        pytest.param("가\u0387나 하늘은 무신", "가·나 하늘은 무신", id="a Greek point for a middle dot"),
        pytest.param("\u212bngström 하늘은 무신", "Ångström 하늘은 무신", id="the sign for ångström"),
    ],
)
def test_single_code_points_have_a_composed_form_too(sent: str, composed: str) -> None:
    found = Example.resolve(sent, Mention("하늘"), Mention("무신"))
    assert found == Example.resolve(composed, Mention("하늘"), Mention("무신"))


@pytest.mark.parametrize(
    ("sent", "start", "end", "key", "index", "fits"),
    [
        pytest.param("\u1100\u1161\u11a8하 무신", 0, 1, "end_idx", 1, 2, id="without its final"),
        pytest.param("\u1100\u1161\u11a8하 무신", 1, 3, "start_idx", 1, 0, id="without its initial"),
        pytest.param("가\u1102\u1161 무신", 0, 1, "end_idx", 1, 2, id="the initial alone"),
        pytest.param("cafe\u0301 무신", 0, 3, "end_idx", 3, 4, id="without its accent"),
        pytest.param("cafe\u0301 무신", 4, 4, "start_idx", 4, 3, id="the accent alone"),
        pytest.param("e\u0323\u0302 무신", 0, 1, "end_idx", 1, 2, id="one accent of two"),
    ],
)
def test_a_span_that_splits_a_composed_character_is_refused(
    sent: str, start: int, end: int, key: str, index: int, fits: int
) -> None:
    found = problem(sent, start_idx=start, end_idx=end)
    assert (found.loc, found.kind) == (("subject_entity", key), "split_character")
    assert found.message.startswith(f"{index} splits the character that ")
    assert found.message.endswith(f"; give {fits}")


def test_part_of_a_decomposed_syllable_is_another_word() -> None:
    assert problem(normalize("NFD", "각하 무신"), word=normalize("NFD", "가")).kind == "not_in_sentence"


def test_errors_count_the_code_points_that_were_sent() -> None:
    sent = normalize("NFD", "각하 수원 수원 무신")
    places = [sent.index(normalize("NFD", "수원")), sent.rindex(normalize("NFD", "수원"))]
    assert f"at start_idx {places[0]}, {places[1]}:" in problem(sent, word="수원").message
    assert f"from 0 to {len(sent) - 1}" in problem(sent, start_idx=0, end_idx=len(sent)).message
    start, end = places[0], places[0] + len(normalize("NFD", "수원")) - 1
    with pytest.raises(InvalidExample, match=rf"subject \({start}-{end}\) and object \({start}-{end}\)"):
        Example.resolve(sent, Mention(None, start, end), Mention("수원", start, end))


@pytest.mark.parametrize(
    ("sentence", "word", "start", "end"),
    [
        pytest.param("강하늘은 이름난 무신이다.", "강하늘", 0, 3, id="before a particle"),
        pytest.param("이름난 무신 강하늘", "강하늘", 7, 10, id="at the end of the sentence"),
        pytest.param("무신 강하늘 장군", "강하늘", 3, 6, id="before a space"),
        pytest.param(normalize("NFD", "강하늘은 무신"), "강하늘", 0, 8, id="decomposed, before a particle"),
    ],
)
def test_an_exclusive_end_is_told_the_index_that_fits(sentence: str, word: str, start: int, end: int) -> None:
    found = problem(sentence, word=word, start_idx=start, end_idx=end)
    assert found.kind in ("word_span_mismatch", "out_of_range", "split_character")
    assert found.message.endswith(f"; end_idx is inclusive: {end - 1} fits the word")


@pytest.mark.parametrize(("start", "end"), [(1, 4), (0, 4), (0, 1), (0, 0)])
def test_other_wrong_ends_get_no_such_hint(start: int, end: int) -> None:
    message = problem("강하늘은 이름난 무신이다.", word="강하늘", start_idx=start, end_idx=end).message
    assert "inclusive" not in message


def test_a_megabyte_of_accents_is_composed_at_once() -> None:
    """Python's own composition would take an hour."""
    sent = "a" + "\u0301\u0316" * 250_000 + " 강하늘 무신"
    assert Example.resolve(sent, Mention("강하늘"), Mention("무신")).object_entity.word == "무신"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    (path,) = DEFAULT_BUNDLE.glob("tokenizers/*.json")
    return Encoder(Tokenizer.from_file(str(path)), "typed_punctuation", 512, 1)


KOREAN = st.text(
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)
    | st.sampled_from("ㅋㅏ ·.,()12é ñ ệ が 李 \u200b\u1100\u1161\u11a8\u0301\u0323"),
    min_size=2,
    max_size=30,
)


@given(sentence=KOREAN, data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_form_of_any_sentence_gives_the_same_tokens(
    encoder: Encoder, sentence: str, data: st.DataObject
) -> None:
    """Also a mixture of forms. A span of the sent text is refused only if it splits a composed character."""
    decomposed = normalize("NFD", sentence)
    places = (
        sorted(data.draw(st.sets(st.integers(0, len(decomposed)), min_size=4, max_size=4)))
        if (len(decomposed) >= 4)
        else [0, 1, 1, 2]
    )
    forms = data.draw(st.lists(st.sampled_from(["NFC", "NFD"]), min_size=5, max_size=5))
    cuts = [0, *places, len(decomposed)]
    parts = [decomposed[start:stop] for start, stop in itertools.pairwise(cuts)]
    sent = "".join(normalize(form, part) for form, part in zip(forms, parts, strict=True))
    lengths = [len(normalize(form, part)) for form, part in zip(forms, parts, strict=True)]
    offsets = [sum(lengths[: index + 1]) for index in range(4)]
    composed = normalize("NFC", sentence)
    mapped = [len(normalize("NFC", decomposed[:place])) for place in places]
    splits = any(
        normalize("NFC", decomposed[:place]) + normalize("NFC", decomposed[place:]) != composed
        for place in places
    )
    blank = any(not parts[index].strip() for index in (1, 3)) or not sent.strip()
    spans = [(offsets[0], offsets[1] - 1), (offsets[2], offsets[3] - 1)]
    mentions = [Mention(None, *span) for span in spans]
    if splits or blank:
        with pytest.raises(InvalidExample):
            Example.resolve(sent, *mentions)
        return
    expected = Example.resolve(
        composed, Mention(None, mapped[0], mapped[1] - 1), Mention(None, mapped[2], mapped[3] - 1)
    )
    found = Example.resolve(sent, *mentions)
    assert found == expected
    assert encoder.encode(found).input_ids.tolist() == encoder.encode(expected).input_ids.tolist()


def test_the_composed_text_and_its_offsets_are_pythons() -> None:
    """Over code points that combine with each other in every way that Unicode has."""
    generator = random.Random(1)
    pool = [
        *"aeoqÅ각가ᄀᄁ이ᅡᅵᆨᆫ李\uf9e1\u212b\u0387",
        *map(chr, range(0x300, 0x330)),
        *"\u0344\u0f71\u0f73\u0f81",
    ]
    pool += [
        *"\u09c7\u09be\u09d7\u0dd9\u0dcf\u0dca\u1025\u102e\u0958\ufb1d\u0b47\u0b56",
        "\U0001d15e",
        "\U00011131",
    ]
    for _ in range(5000):
        sent = "".join(generator.choices(pool, k=generator.randint(1, 10)))
        text = ComposedText.of(sent)
        assert text.text == compose(sent) == normalize("NFC", sent)
        for place in range(len(sent) + 1):
            before, after = normalize("NFC", sent[:place]), normalize("NFC", sent[place:])
            assert text.offset(place) == (len(before) if before + after == text.text else None)
