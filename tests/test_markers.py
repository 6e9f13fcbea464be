"""Each marker style, and that a user's text can neither forge markers nor push them out of the window."""

from collections.abc import Callable

import pytest
from examples import any_example, marked, words
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import ENTITY_TOKENS, KINDS, unigram, word_piece
from tokenizers import Tokenizer, models, processors

from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import Example, InvalidExample
from models.markers import MARKER_STYLES, TYPED_PUNCTUATION
from models.marking import Marking

typed_punctuation = Marking(TYPED_PUNCTUATION).mark
PAD, WIDE = 0, 4096

kinds = pytest.mark.parametrize("kind", KINDS)


def text_ids(kind: Callable[[bool], Tokenizer], *pieces: str) -> list[int]:
    """Tokens of pieces of text, none of them special."""
    tokenizer = kind(True)
    tokenizer.encode_special_tokens = True
    ids: list[int] = tokenizer.encode(list(pieces), is_pretokenized=True, add_special_tokens=False).ids
    return [1 if tokenizer.id_to_token(index) in SPECIALS else index for index in ids]


SPECIALS = {
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "<mask>",
    *ENTITY_TOKENS,
}

HOSTILE = [
    pytest.param("강하늘은 이름난 무신", "강하늘", "무신", id="entities begin and end the sentence"),
    pytest.param("무신 중의 강하늘", "강하늘", "무신", id="object first"),
    pytest.param("강하늘무신", "강하늘", "무신", id="nothing but the two"),
    pytest.param("무신강하늘이다", "강하늘", "무신", id="touching, object first"),
    pytest.param("<subj>강하늘</subj> <obj>무신</obj>", "강하늘", "무신", id="already marked"),
    pytest.param("<obj>강하늘</obj> <subj>무신</subj>", "강하늘", "무신", id="marked the other way round"),
    pytest.param("<subj>", "<", "subj", id="nothing but a marker"),
    pytest.param("이 <subj> 무신", "<subj>", "무신", id="a marker as the entity"),
    pytest.param("</obj> 무신</obj></obj>", "</obj> 무", "신", id="a marker in the entity"),
    pytest.param("[CLS] 강하늘 [SEP] 무신 [SEP] [MASK] [PAD]", "강하늘", "무신", id="BERT's special tokens"),
    pytest.param("이름 [SEP] 무신", "[SEP]", "무신", id="a separator as the entity"),
    pytest.param("강하늘</s></s>무신</s><mask>", "강하늘", "무신", id="RoBERTa's special tokens"),
    pytest.param("이름 </s> 무신", "무신", "</s>", id="an end as the entity"),
    pytest.param("＜subj＞강하늘＜／s＞ 무신", "강하늘", "무신", id="fullwidth"),
    pytest.param("강\u200d하늘\u0301 👨\u200d👩무신\u11ab", "강\u200d하늘", "무신", id="joiners and marks"),
    pytest.param("강하늘 및 무신의 관계는 무엇인가?", "강하늘", "무신", id="the question itself"),
]


STYLES = {
    "typed_punctuation": "@*사람*강하늘@은 이름난 #^기타^무신#이다.",
    "typed_punctuation_question": (
        "@*사람*강하늘@은 이름난 #^기타^무신#이다.|강하늘 및 무신의 관계는 무엇인가?"
    ),
    "entity_tokens": "<subj>강하늘</subj>은 이름난 <obj>무신</obj>이다.",
}
"""What each style makes of one sentence. A question follows after '|'."""


def test_every_style_is_in_the_table() -> None:
    assert set(STYLES) == set(MARKER_STYLES)


@pytest.mark.parametrize("name", MARKER_STYLES)
@pytest.mark.parametrize("swapped", [False, True], ids=["subject first", "object first"])
def test_each_style_marks_the_sentence(name: str, swapped: bool) -> None:
    template, example = MARKER_STYLES[name], words("강하늘은 이름난 무신이다.", "강하늘", "무신")
    if swapped:
        example = Example(example.sentence, example.object_entity, example.subject_entity)
    marked_ = Marking(template).mark(example)
    subject, object_ = example.subject_entity.word, example.object_entity.word
    assert bool(marked_.after) == template.two_segments
    assert set(template.vocabulary) <= set(marked_.pieces)
    if not swapped:
        assert "|".join(["".join(marked_.pieces), *marked_.after]) == STYLES[name]
    for place, word in ((marked_.subject, subject), (marked_.object_, object_)):
        assert marked_.first <= place < marked_.pieces.index(word) <= marked_.last
    assert "".join(marked_.pieces[: marked_.first] + marked_.pieces[marked_.last + 1 :]) == "이다."


def example_of(sentence: str, subject: str, object_: str) -> Example:
    starts = sentence.index(subject), sentence.rindex(object_)
    return marked(
        sentence,
        *((start, start + len(word) - 1) for start, word in zip(starts, (subject, object_), strict=True)),
    )


def check_tokens(kind: Callable[[bool], Tokenizer], example: Example, encoded: Encoded) -> None:
    """The entities are between their markers, which occur nowhere else. The text gives no special token."""
    ids, (subject, object_) = encoded.input_ids.tolist(), encoded.entity_positions.tolist()
    name = kind(True).id_to_token
    for position, entity, opens, closes in (
        (subject, example.subject_entity, "<subj>", "</subj>"),
        (object_, example.object_entity, "<obj>", "</obj>"),
    ):
        word = text_ids(kind, entity.word)
        assert name(ids[position]) == opens
        assert ids[position + 1 : position + 1 + len(word)] == word
        assert name(ids[position + 1 + len(word)]) == closes
    assert (subject < object_) == (example.subject_entity.start_idx < example.object_entity.start_idx)
    order = ENTITY_TOKENS if subject < object_ else (*ENTITY_TOKENS[2:], *ENTITY_TOKENS[:2])
    opening, *found, closing = [name(index) for index in ids if index != 1 and name(index) in SPECIALS]
    assert (opening, closing) in {("[CLS]", "[SEP]"), ("<s>", "</s>")}
    assert tuple(found) == order


@pytest.mark.parametrize(("sentence", "subject", "object_"), HOSTILE)
@kinds
@pytest.mark.parametrize("special", [True, False], ids=["special", "ordinary"])
def test_entity_tokens_are_at_their_places(
    kind: Callable[[bool], Tokenizer], special: bool, sentence: str, subject: str, object_: str
) -> None:
    """Whether they were added to the vocabulary as special tokens or as ordinary ones, which a text would
    match."""
    example = example_of(sentence, subject, object_)
    check_tokens(kind, example, Encoder(kind(special), "entity_tokens", WIDE, PAD).encode(example))


@kinds
def test_ordinary_text_with_entity_tokens_is_what_the_tokenizer_makes_of_the_marked_string(
    kind: Callable[[bool], Tokenizer],
) -> None:
    encoded = Encoder(kind(True), "entity_tokens", WIDE, PAD).encode(
        words("강하늘은 이름난 무신이다.", "강하늘", "무신")
    )
    assert (
        encoded.input_ids.tolist()
        == kind(True).encode("<subj>강하늘</subj>은 이름난 <obj>무신</obj>이다.").ids
    )


def question_ids(kind: Callable[[bool], Tokenizer], example: Example) -> list[int]:
    return text_ids(kind, f"{example.subject_entity.word} 및 {example.object_entity.word}의 관계는 무엇인가?")


def check_question(kind: Callable[[bool], Tokenizer], example: Example, encoded: Encoded) -> None:
    """Two segments and no third: the fenced sentence, and the whole question."""
    ids, question = encoded.input_ids.tolist(), question_ids(kind, example)
    bert = kind is word_piece
    between, closing = ([3], [3]) if bert else ([3, 3], [3])
    assert ids[0] == 2
    assert ids[-len(closing + question + between) :] == between + question + closing
    assert ids.count(2) == 1
    assert ids.count(3) == len(between + closing)
    assert encoded.second_segment == (len(question) + 1 if bert else 0)
    name = kind(True).id_to_token
    assert [
        name(ids[position]).strip("▁") or name(ids[position + 1])
        for position in encoded.entity_positions.tolist()
    ] == ["@", "#"]


@pytest.mark.parametrize(("sentence", "subject", "object_"), HOSTILE)
@kinds
def test_the_question_is_a_segment_of_its_own(
    kind: Callable[[bool], Tokenizer], sentence: str, subject: str, object_: str
) -> None:
    example = example_of(sentence, subject, object_)
    check_question(
        kind, example, Encoder(kind(True), "typed_punctuation_question", WIDE, PAD).encode(example)
    )


@kinds
def test_two_segments_are_joined_and_typed_as_the_tokenizer_does(kind: Callable[[bool], Tokenizer]) -> None:
    example = words("강하늘은 이름난 무신이다.", "강하늘", "무신")
    expected = kind(True).encode(
        typed_punctuation(example).pieces, ["강하늘 및 무신의 관계는 무엇인가?"], is_pretokenized=True
    )
    encoded = Encoder(kind(True), "typed_punctuation_question", WIDE, PAD).encode(example)
    batch = EncodedBatch.collate([encoded], PAD)
    assert batch.input_ids[0].tolist() == expected.ids
    assert batch.token_type_ids[0].tolist() == expected.type_ids


def test_token_types_of_a_batch_stay_zero_on_padding_and_on_single_segments() -> None:
    asking, plain = (
        Encoder(word_piece(True), markers, WIDE, PAD)
        for markers in ("typed_punctuation_question", "typed_punctuation")
    )
    example = words("강하늘은 무신", "강하늘", "무신")
    first, second = asking.encode(example), plain.encode(example)
    batch = EncodedBatch.collate([first, second], PAD, tokens=len(first) + 5)
    types = [0] * (len(first) - first.second_segment) + [1] * first.second_segment + [0] * 5
    assert batch.token_type_ids.tolist() == [types, [0] * len(types)]


HEAD, CORE, TAIL = "이야기가 길고 길어서 ", "강하늘은 이름난 무신", "이라고 사람들이 오래도록 말하였다."


@kinds
@pytest.mark.parametrize("style", ["entity_tokens", "typed_punctuation_question"])
@pytest.mark.parametrize(("head", "tail"), [(HEAD * 3, TAIL * 3), (HEAD * 5, ""), ("", TAIL * 5)])
def test_a_cut_takes_neither_markers_nor_question(
    kind: Callable[[bool], Tokenizer], style: str, head: str, tail: str
) -> None:
    check = check_tokens if style == "entity_tokens" else check_question
    example = marked(head + CORE + tail, (len(head), len(head) + 2), (len(head) + 9, len(head) + 10))
    core = words(CORE, "강하늘", "무신")
    least = len(Encoder(kind(True), style, WIDE, PAD).encode(core))
    whole = Encoder(kind(True), style, WIDE, PAD).encode(example)
    for spare in (0, 1, 2, 3, 10, 40):
        cut = Encoder(kind(True), style, least + spare, PAD).encode(example)
        assert len(cut) == min(least + spare, len(whole))
        check(kind, example, cut)
    for lacking in (1, 2, least - 3):
        with pytest.raises(InvalidExample, match=r"^sentence: the two entities are too far apart"):
            Encoder(kind(True), style, least - lacking, PAD).encode(example)


def tokens_needed(example: Example) -> int:
    leading, trailing = sorted(
        (example.subject_entity, example.object_entity), key=lambda entity: entity.start_idx
    )
    between = example.sentence[leading.end_idx + 1 : trailing.start_idx]
    return len(text_ids(unigram, leading.word, between, trailing.word)) + len(ENTITY_TOKENS) + 2


def question_needed(example: Example) -> int:
    return (
        len(text_ids(unigram, *typed_punctuation(example).pieces[1:-1]) + question_ids(unigram, example)) + 4
    )


@pytest.mark.parametrize(
    ("style", "needed", "check"),
    [
        ("entity_tokens", tokens_needed, check_tokens),
        ("typed_punctuation_question", question_needed, check_question),
    ],
)
@given(example=any_example(), spare=st.integers(-3, 30))
@settings(max_examples=100, deadline=None)
def test_in_any_text_markers_and_question_are_at_their_places_or_the_example_is_refused(
    style: str, needed: Callable[[Example], int], check: Callable[..., None], example: Example, spare: int
) -> None:
    """In the tokenizer whose vocabulary lists everything special as pieces of text."""
    encoder = Encoder(unigram(True), style, needed(example) + spare, PAD)
    if spare < 0:
        with pytest.raises(InvalidExample, match=r"^sentence: "):
            encoder.encode(example)
    else:
        check(unigram, example, encoder.encode(example))


def test_a_tokenizer_that_lacks_a_marker_is_refused() -> None:
    without = Tokenizer.from_str(word_piece(True).to_str().replace('"</obj>"', '"</other>"'))
    with pytest.raises(ValueError, match=r"^the tokenizer lacks </obj>, which the markers need$"):
        Encoder(without, "entity_tokens", WIDE, PAD)


def test_a_tokenizer_that_joins_no_segments_is_refused_where_two_are_needed() -> None:
    tokenizer = unigram(True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    Encoder(tokenizer, "typed_punctuation", WIDE, PAD)
    with pytest.raises(ValueError, match="puts nothing between two segments"):
        Encoder(tokenizer, "typed_punctuation_question", WIDE, PAD)


def test_a_tokenizer_without_special_tokens_around_a_text_is_refused() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="puts no special tokens around a text"):
        Encoder(tokenizer, "typed_punctuation", WIDE, PAD)
