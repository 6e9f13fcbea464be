"""Marker templates: the token ids are those of the tokenizer for the marked string, as in training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from examples import marked, words
from tokenizer_kinds import KINDS, unigram, word_piece
from tokenizers import Tokenizer

from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import EntityType, InvalidExample
from models.markers import MarkerTemplate, checked, read_markers
from models.vocabulary import unused_markers

PAD, WIDE = 0, 4096
SENTENCE = "강하늘은 이름난 무신이다."
TYPED_TOKENS = {
    "subject": "[S:{type}]{word}[/S:{type}]",
    "object": "[O:{type}]{word}[/O:{type}]",
    "subject_untyped": "{word}",
    "object_untyped": "{word}",
    "tokens": ["[S:{type}]", "[/S:{type}]", "[O:{type}]", "[/O:{type}]"],
}
KOREAN = {"PER": "사람", "ORG": "단체", "LOC": "장소", "DAT": "날짜", "POH": "기타", "NOH": "수량"}
PUNCTUATION = {
    "subject": "@*{type}*{word}@",
    "object": "#^{type}^{word}#",
    "subject_untyped": "@{word}@",
    "object_untyped": "#{word}#",
}
BASELINE = {"subject": "{word}", "object": "{word}", "before": "{subject}[SEP]{object}", "tokens": ["[SEP]"]}


def template(fields: dict[str, Any]) -> MarkerTemplate:
    return MarkerTemplate.model_validate(fields)


def encode(tokenizer: Tokenizer, fields: dict[str, Any], **types: EntityType | None) -> Encoded:
    example = marked(SENTENCE, (0, 2), (9, 10), **types)
    return Encoder(tokenizer, template(fields), WIDE, PAD).encode(example)


CASES = [
    pytest.param(TYPED_TOKENS, "[S:PER]강하늘[/S:PER]은 이름난 [O:POH]무신[/O:POH]이다.", id="typed tokens"),
    pytest.param(PUNCTUATION, "@*PER*강하늘@은 이름난 #^POH^무신#이다.", id="English types"),
    pytest.param(
        {**PUNCTUATION, "types": KOREAN}, "@*사람*강하늘@은 이름난 #^기타^무신#이다.", id="Korean types"
    ),
    pytest.param(
        {
            "subject": "<subj>{word}</subj>",
            "object": "<obj>{word}</obj>",
            "tokens": ["<subj>", "</subj>", "<obj>", "</obj>"],
        },
        "<subj>강하늘</subj>은 이름난 <obj>무신</obj>이다.",
        id="KLUE's tokens",
    ),
    pytest.param(
        {"subject": "[ {word} ]", "object": "$ {word} $"}, "[ 강하늘 ]은 이름난 $ 무신 $이다.", id="brackets"
    ),
    pytest.param({"subject": "{word}", "object": "{word}"}, SENTENCE, id="no markers"),
]


def with_tokens(kind: Callable[[bool], Tokenizer], fields: dict[str, Any]) -> Tokenizer:
    """A tokenizer that knows the tokens of a template, as after training with it."""
    tokenizer = kind(True)
    tokenizer.add_special_tokens(list(template(fields).vocabulary))
    return tokenizer


@pytest.mark.parametrize(("fields", "text"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_sentence_is_tokenised_as_the_marked_string(
    kind: Callable[[bool], Tokenizer], fields: dict[str, Any], text: str
) -> None:
    tokenizer = with_tokens(kind, fields)
    expected = tokenizer.encode(text).ids
    encoded = encode(tokenizer, fields)
    assert encoded.input_ids.tolist() == expected
    assert encoded.second_segment == 0


@pytest.mark.parametrize(
    ("fields", "first", "second"),
    [
        pytest.param(BASELINE, "강하늘[SEP]무신", SENTENCE, id="the competition's baseline"),
        pytest.param(
            {**BASELINE, "before": "{subject}과 {object}의 관계는 무엇인가?", "tokens": []},
            "강하늘과 무신의 관계는 무엇인가?",
            SENTENCE,
            id="a query in front",
        ),
        pytest.param(
            {**PUNCTUATION, "after": "{subject} {object}"},
            "@*PER*강하늘@은 이름난 #^POH^무신#이다.",
            "강하늘 무신",
            id="the words after",
        ),
    ],
)
@pytest.mark.parametrize("kind", [word_piece, unigram])
def test_two_segments_are_those_of_the_tokenizer(
    kind: Callable[[bool], Tokenizer], fields: dict[str, Any], first: str, second: str
) -> None:
    tokenizer = with_tokens(kind, fields)
    expected = tokenizer.encode(first, second)
    batch = EncodedBatch.collate([encode(tokenizer, fields)], PAD)
    assert batch.input_ids[0].tolist() == expected.ids
    assert batch.token_type_ids[0].tolist() == expected.type_ids


def test_one_segment_holds_the_text_before_and_after() -> None:
    fields = {**BASELINE, "before": "{subject}[SEP]{object}[SEP]", "after": "[SEP]{object}", "segments": 1}
    tokenizer = with_tokens(word_piece, fields)
    encoded = encode(tokenizer, fields)
    text = f"강하늘[SEP]무신[SEP]{SENTENCE}[SEP]무신"
    assert encoded.input_ids.tolist() == word_piece(True).encode(text).ids
    assert encoded.second_segment == 0


@pytest.mark.parametrize(("fields", "text"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_positions_are_those_of_the_first_token_of_each_entity(
    kind: Callable[[bool], Tokenizer], fields: dict[str, Any], text: str
) -> None:
    tokenizer = with_tokens(kind, fields)
    expected = tokenizer.encode(text)
    opens = [
        template(fields).around(role, type_)[0] for role, type_ in (("subject", "PER"), ("object", "POH"))
    ]
    starts = [
        text.index("".join(pieces) or word) for pieces, word in zip(opens, ("강하늘", "무신"), strict=True)
    ]
    assert encode(tokenizer, fields).entity_positions.tolist() == [
        next(index for index, (_, stop) in enumerate(expected.offsets) if stop > start) for start in starts
    ]


def test_an_entity_without_a_type_has_its_own_form() -> None:
    tokenizer = with_tokens(word_piece, PUNCTUATION)
    untyped = encode(tokenizer, PUNCTUATION, subject_type=None, object_type=None)
    assert untyped.input_ids.tolist() == tokenizer.encode("@강하늘@은 이름난 #무신#이다.").ids


@pytest.mark.parametrize("fields", [BASELINE, TYPED_TOKENS, PUNCTUATION])
def test_a_users_text_gives_no_marker_token(fields: dict[str, Any]) -> None:
    tokenizer = with_tokens(word_piece, fields)
    special = {tokenizer.token_to_id(token) for token in template(fields).vocabulary}
    encoder = Encoder(tokenizer, template(fields), WIDE, PAD)
    plain, hostile = (
        encoder.encode(words(sentence, "강하늘", "무신")).input_ids.tolist()
        for sentence in (SENTENCE, "[SEP][S:PER] 강하늘은 [/O:POH]@# 무신[SEP]")
    )
    count = [sum(index in special for index in ids) for ids in (plain, hostile)]
    assert count[0] == count[1]


@pytest.mark.parametrize(
    "fields", [BASELINE, TYPED_TOKENS, PUNCTUATION, {"subject": "{word}", "object": "{word}"}]
)
def test_a_long_sentence_is_cut_around_the_entities_and_keeps_the_text_before(fields: dict[str, Any]) -> None:
    tokenizer = with_tokens(word_piece, fields)
    head, tail = "이야기가 길고 길어서 " * 5, " 말하였다." * 9
    example = marked(head + SENTENCE + tail, (len(head), len(head) + 2), (len(head) + 9, len(head) + 10))
    whole = Encoder(tokenizer, template(fields), WIDE, PAD).encode(example)
    least = next(
        window for window in range(3, 200) if fits(Encoder(tokenizer, template(fields), window, PAD), example)
    )
    for window in (least, least + 1, least + 15):
        cut = Encoder(tokenizer, template(fields), window, PAD).encode(example)
        assert (len(cut), cut.truncated) == (window, True)
        for short, long in zip(cut.entity_positions, whole.entity_positions, strict=True):
            assert cut.input_ids[short] == whole.input_ids[long]


def fits(encoder: Encoder, example: Any) -> bool:
    try:
        encoder.encode(example)
    except InvalidExample:
        return False
    return True


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subject": "<e>{word}</e>"}, "object: Field required"),
        ({**BASELINE, "subject": "@@"}, "subject: {word} is required once, not in '@@'"),
        ({**BASELINE, "object": "{word}{word}"}, "object: {word} is required once"),
        ({**BASELINE, "subject": "{word} {name}"}, "has a brace; braces are only for {word} and {type}"),
        ({**BASELINE, "before": "{word}"}, "braces are only for {subject} and {object}"),
        ({**BASELINE, "subject": "{type}{word}"}, "subject has {type}; give subject_untyped"),
        ({**BASELINE, "tokens": ["[X]", "[SEP]"]}, "tokens: '[X]' is in none of the other fields"),
        ({**BASELINE, "after": "{object}"}, "only one of them can be a segment; give segments: 1"),
        ({**BASELINE, "subjekt": "{word}"}, "subjekt: Extra inputs are not permitted"),
        ({**BASELINE, "segments": 3}, "segments: Input should be 1 or 2"),
        (["entity_tokens"], "marker template: "),
        (7, "marker template: "),
        ("runes", "unknown marker style 'runes'"),
    ],
)
def test_a_wrong_template_is_refused_in_one_line(fields: object, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        checked(fields)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_template_file_is_yaml(tmp_path: Path) -> None:
    path = tmp_path / "typed.yaml"
    path.write_text(
        'subject: "@ {word} @"\nobject: "# {word} #"\nbefore: "{subject}와 {object}"\n', encoding="utf-8"
    )
    assert read_markers(str(path)) == template(
        {"subject": "@ {word} @", "object": "# {word} #", "before": "{subject}와 {object}"}
    )
    assert read_markers("entity_tokens") == "entity_tokens"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[a, b]", "a mapping with subject and object is required"),
        ("subject: [", "wrong.yaml: "),
        (json.dumps({"subject": "{word}"}), "wrong.yaml: marker template: object: Field required"),
        (None, "is neither a marker style nor a template file; the styles are typed_punctuation, "),
    ],
)
def test_a_wrong_template_file_is_refused_by_name(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"wrong\.yaml") as refused:
        read_markers(str(path))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("added", "fields", "unused"),
    [
        (["[S:PER]", "[/S:PER]"], BASELINE, ["[/S:PER]", "[S:PER]"]),
        (["<e1>", "</e1>", "[unused3]"], PUNCTUATION, ["</e1>", "<e1>"]),
        (["[S:PER]", "[/S:PER]"], TYPED_TOKENS, []),
        (["새말", "<unk>"], BASELINE, []),
    ],
)
def test_added_tokens_that_look_like_unused_markers_are_found(
    added: list[str], fields: dict[str, Any], unused: list[str]
) -> None:
    tokenizer = Tokenizer.from_str(word_piece(True).to_str().replace("subj>", "s>").replace("obj>", "s>"))
    tokenizer.add_tokens(added)
    assert unused_markers(tokenizer, template(fields)) == unused
