"""Where the markers are in the token ids of any text, and how a long sentence is cut to the window."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import DEFAULT_BUNDLE
from examples import any_example, marked, words
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from loadtest.sentences import Row
from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import Entity, EntityType, Example, InvalidExample
from models.markers import TYPE_WORDS

PAD = 1
WIDE = 4096  # a window that cuts no sentence of these tests


@pytest.fixture(scope="module")
def tokenizer_file(encoder_folder: Path) -> Path:
    return encoder_folder / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    """The tokenizer itself, to compare with: like the encoder's, it reads special tokens in a text as
    text."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def encoder(tokenizer_file: Path) -> Encoder:
    return window(tokenizer_file, WIDE)


def window(tokenizer_file: Path, max_length: int) -> Encoder:
    return Encoder.from_file(tokenizer_file, "typed_punctuation", max_length, PAD)


def specials(tokenizer: Tokenizer) -> set[int]:
    return set(tokenizer.get_added_tokens_decoder()) - {tokenizer.token_to_id("<unk>")}


def text_ids(tokenizer: Tokenizer, *pieces: str) -> list[int]:
    """Tokens of pieces of text, where what reads like a special token is unknown."""
    unknown, special = tokenizer.token_to_id("<unk>"), specials(tokenizer)
    ids = tokenizer.encode(list(pieces), is_pretokenized=True, add_special_tokens=False).ids
    return [unknown if index in special else index for index in ids]


def mention_ids(tokenizer: Tokenizer, entity: Entity, fence: str, type_fence: str) -> list[int]:
    """Tokens of an entity with its markers."""
    type_pieces = [type_fence, TYPE_WORDS[entity.type], type_fence] if entity.type else []
    return text_ids(tokenizer, fence, *type_pieces, entity.word, fence)


def text_from(tokenizer: Tokenizer, encoded: Encoded, position: int) -> str:
    """What is written from a token on, without the signs for spaces."""
    return "".join(tokenizer.id_to_token(index) for index in encoded.input_ids[position:].tolist()).replace(
        "▁", ""
    )


def check(tokenizer: Tokenizer, example: Example, encoded: Encoded) -> None:
    """Each position is that of the opening marker, followed by type and word. The text gives no special
    token."""
    subject, object_ = encoded.entity_positions.tolist()
    ids = encoded.input_ids.tolist()
    subject_ids = mention_ids(tokenizer, example.subject_entity, "@", "*")
    object_ids = mention_ids(tokenizer, example.object_entity, "#", "^")
    assert ids[subject : subject + len(subject_ids)] == subject_ids
    assert ids[object_ : object_ + len(object_ids)] == object_ids
    assert text_from(tokenizer, encoded, subject).startswith("@")
    assert text_from(tokenizer, encoded, object_).startswith("#")
    assert (subject < object_) == (example.subject_entity.start_idx < example.object_entity.start_idx)
    assert [tokenizer.id_to_token(index) for index in (ids[0], ids[-1])] == ["<s>", "</s>"]
    assert specials(tokenizer).isdisjoint(ids[1:-1])


def test_an_entity_is_fenced_with_its_type_in_korean(tokenizer: Tokenizer, encoder: Encoder) -> None:
    encoded = encoder.encode(words("강하늘은 이름난 무신이다.", "강하늘", "무신"))
    subject, object_ = encoded.entity_positions.tolist()
    assert text_from(tokenizer, encoded, 0) == "<s>@*사람*강하늘@은이름난#^기타^무신#이다.</s>"
    assert text_from(tokenizer, encoded, subject) == "@*사람*강하늘@은이름난#^기타^무신#이다.</s>"
    assert text_from(tokenizer, encoded, object_) == "#^기타^무신#이다.</s>"


@pytest.mark.parametrize(
    ("type_", "word"),
    [("PER", "사람"), ("ORG", "단체"), ("LOC", "장소"), ("DAT", "날짜"), ("POH", "기타"), ("NOH", "수량")],
)
def test_every_type_has_a_word(tokenizer: Tokenizer, encoder: Encoder, type_: EntityType, word: str) -> None:
    encoded = encoder.encode(marked("강하늘은 이름난 무신이다.", (0, 2), (9, 10), object_type=type_))
    assert text_from(tokenizer, encoded, encoded.entity_positions[1]) == f"#^{word}^무신#이다.</s>"


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((None, None), "<s>@강하늘@은#무신#.</s>"),
        (("PER", None), "<s>@*사람*강하늘@은#무신#.</s>"),
        ((None, "POH"), "<s>@강하늘@은#^기타^무신#.</s>"),
    ],
)
def test_an_entity_without_a_type_has_no_type_word(
    tokenizer: Tokenizer, encoder: Encoder, types: tuple[EntityType | None, EntityType | None], expected: str
) -> None:
    example = marked("강하늘은 무신.", (0, 2), (5, 6), *types)
    encoded = encoder.encode(example)
    assert text_from(tokenizer, encoded, 0) == expected
    check(tokenizer, example, encoded)


def test_the_role_decides_the_fence_not_the_order(tokenizer: Tokenizer, encoder: Encoder) -> None:
    encoded = encoder.encode(words("무신 강하늘이 상을 받았다.", "강하늘", "무신"))
    assert text_from(tokenizer, encoded, 0) == "<s>#^기타^무신#@*사람*강하늘@이상을받았다.</s>"
    assert encoded.entity_positions[0] > encoded.entity_positions[1]


@pytest.mark.parametrize(
    ("sentence", "subject", "object_"),
    [
        pytest.param("강하늘은 이름난 무신", "강하늘", "무신", id="entities begin and end the sentence"),
        pytest.param("무신 중의 강하늘", "강하늘", "무신", id="object begins, subject ends"),
        pytest.param("강하늘무신", "강하늘", "무신", id="nothing but the two, touching"),
        pytest.param("무신강하늘", "강하늘", "무신", id="touching, object first"),
        pytest.param("이름난 강하늘무신이다.", "강하늘", "무신", id="touching inside"),
        pytest.param("  강하늘은   무신  ", "강하늘", "무신", id="spaces around"),
        pytest.param("강하늘\n\t무신\r\n", "강하늘", "무신", id="line breaks"),
        pytest.param("@강하늘@ #무신#", "강하늘", "무신", id="already fenced"),
        pytest.param("@ * 사람 * 강하늘 @ 은 # ^ 기타 ^ 무신 # 이다", "강하늘", "무신", id="already marked"),
        pytest.param(
            "# ^ 기타 ^ # @ * 사람 * @ 무신 @@@@ 강하늘",
            "강하늘",
            "무신",
            id="fences of the other role before",
        ),
        pytest.param("★@ 강하늘 ★# 무신", "★@", "★#", id="fences in the words"),
        pytest.param("@ 그리고 #", "#", "@", id="the words are each other's fences"),
        pytest.param(
            "a@b.kr 로 강하늘에게 #무신 *꼭* ^^ 보내줘",
            "강하늘",
            "무신",
            id="an address, a hashtag and a smile",
        ),
        pytest.param("<s>강하늘</s> <mask> 무신</s>", "강하늘", "무신", id="special tokens"),
        pytest.param("<s> 강하늘 <pad> <unk> 무신 </s>", "강하늘", "무신", id="special tokens as words"),
        pytest.param("강하늘 </s> 무신", "</s>", "무신", id="a special token as the entity"),
        pytest.param(
            "</s></s></s>강하늘<s><s>무신<mask><mask>", "강하늘", "무신", id="special tokens in a row"
        ),
        pytest.param("＜/s＞강하늘＜ｓ＞ ＜mask＞무신", "강하늘", "무신", id="fullwidth special tokens"),
        pytest.param("＠강하늘＠ ＃무신＃ ＊ ＾", "강하늘", "무신", id="fullwidth fences"),
        pytest.param("강하늘\u200d은 \u200d무신\u200d이다", "강하늘", "무신", id="zero-width joiners"),
        pytest.param(
            "\u200b강하늘\u2060\ufeff 무신\u00ad", "강하늘", "무신", id="other characters without width"
        ),
        pytest.param("👨\u200d👩\u200d👧강하늘👩🏽\u200d🚀 🇰🇷무신🇰🇷", "강하늘", "무신", id="emoji"),
        pytest.param(
            "강하늘\u0301\u0308은 무신\u0300이다", "강하늘", "무신", id="combining marks right after"
        ),
        pytest.param(
            "ㄱㅏ\u3131강하늘\u11a8은 무신\u11ab", "강하늘", "무신", id="a final consonant right after"
        ),
        pytest.param(
            "\u1100\u1161\u11a8 \u1102\u1161", "\u1100\u1161\u11a8", "\u1102\u1161", id="decomposed syllables"
        ),
        pytest.param("강하늘㍿ ﷺ 무신½", "강하늘㍿", "무신", id="characters that become several"),
        pytest.param("▁강하늘▁▁ ▁무신", "강하늘", "무신", id="the tokenizer's own sign for a space"),
        pytest.param("강\x00하\x07늘\x7f 무신", "강\x00하\x07늘", "무신", id="control characters"),
        pytest.param("\u202e강하늘\u202c 무신", "강하늘", "무신", id="right to left"),
        pytest.param("龘강하늘𐍈 𠀀무신", "강하늘", "무신", id="characters outside the vocabulary"),
    ],
)
@pytest.mark.parametrize("types", [("PER", "POH"), (None, None)], ids=["typed", "untyped"])
def test_the_markers_are_at_their_places(
    tokenizer: Tokenizer,
    encoder: Encoder,
    sentence: str,
    subject: str,
    object_: str,
    types: tuple[EntityType | None, EntityType | None],
) -> None:
    first, second = sentence.index(subject), sentence.index(object_)
    example = marked(sentence, (first, first + len(subject) - 1), (second, second + len(object_) - 1), *types)
    check(tokenizer, example, encoder.encode(example))


@pytest.mark.parametrize("before", ["", "😀", "@#*^ ", "</s>", "긴 이야기가 있고 "])
@pytest.mark.parametrize("between", ["", " ", "@", "\u200d", "은 이름난 "])
@pytest.mark.parametrize("after", ["", "\u0301", "#", "이다."])
def test_nothing_of_the_sentence_is_lost_or_moved(
    tokenizer: Tokenizer, encoder: Encoder, before: str, between: str, after: str
) -> None:
    start = len(before) + 3 + len(between)
    example = marked(
        f"{before}강하늘{between}무신{after}", (len(before), len(before) + 2), (start, start + 1)
    )
    expected = [
        *text_ids(tokenizer, before),
        *mention_ids(tokenizer, example.subject_entity, "@", "*"),
        *text_ids(tokenizer, between),
        *mention_ids(tokenizer, example.object_entity, "#", "^"),
        *text_ids(tokenizer, after),
    ]
    assert encoder.encode(example).input_ids[1:-1].tolist() == expected


@pytest.mark.parametrize(
    "token", ["<s>", "</s>", "<pad>", "<mask>", "<unk>", "＜/s＞", "<<s>", "< /s>", "</s></s>"]
)
def test_no_text_gives_special_tokens(tokenizer: Tokenizer, encoder: Encoder, token: str) -> None:
    encoded = encoder.encode(words(f"{token}강하늘 {token}{token} 무신 {token}", "강하늘", "무신"))
    ids = encoded.input_ids.tolist()
    assert [tokenizer.id_to_token(index) for index in (ids[0], ids[-1])] == ["<s>", "</s>"]
    assert specials(tokenizer).isdisjoint(ids[1:-1])


def test_encoded_examples_are_of_the_models_integer_type(encoder: Encoder) -> None:
    encoded = encoder.encode(words("강하늘은 무신이다.", "강하늘", "무신"))
    assert encoded.input_ids.dtype == encoded.entity_positions.dtype == np.int64
    assert encoded.input_ids.shape == (len(encoded),)
    assert encoded.entity_positions.shape == (2,)


HEAD, CORE, TAIL = "이야기가 길고 길어서 ", "강하늘은 이름난 무신", "이라고 사람들이 오래도록 말하였다."


def in_context(head: str, tail: str) -> Example:
    return marked(head + CORE + tail, (len(head), len(head) + 2), (len(head) + 9, len(head) + 10))


def core_ids(encoder: Encoder) -> list[int]:
    """The tokens of both entities and of the text between them."""
    ids: list[int] = encoder.encode(in_context("", "")).input_ids[1:-1].tolist()
    return ids


CONTEXTS = [
    pytest.param(HEAD, TAIL, id="both sides"),
    pytest.param(HEAD * 5, TAIL, id="more before"),
    pytest.param(HEAD, TAIL * 5, id="more after"),
    pytest.param(HEAD * 5, "", id="nothing after"),
    pytest.param("", TAIL * 5, id="nothing before"),
    pytest.param("", "", id="nothing around"),
]


@pytest.mark.parametrize(("head", "tail"), CONTEXTS)
@pytest.mark.parametrize("spare", [0, 1, 2, 3, 4, 7, 10, 25, 60, 1000])
def test_a_long_sentence_is_cut_around_its_entities(
    tokenizer: Tokenizer, tokenizer_file: Path, encoder: Encoder, head: str, tail: str, spare: int
) -> None:
    example, core = in_context(head, tail), core_ids(encoder)
    whole = encoder.encode(example)
    cut = window(tokenizer_file, len(core) + 2 + spare).encode(example)
    before = int(cut.entity_positions[0]) - 1
    behind = len(cut) - 2 - before - len(core)
    dropped = int(whole.entity_positions[0] - cut.entity_positions[0])
    all_before, all_behind = len(text_ids(tokenizer, head)), len(text_ids(tokenizer, tail))
    assert len(cut) == min(len(whole), len(core) + 2 + spare)
    assert cut.input_ids[1:-1].tolist() == whole.input_ids[1 + dropped : dropped + len(cut) - 1].tolist()
    assert cut.input_ids[1 + before : 1 + before + len(core)].tolist() == core
    assert before == all_before or behind == all_behind or abs(before - behind) <= 1
    assert before >= min(all_before, spare // 2)
    assert behind >= min(all_behind, spare // 2)
    check(tokenizer, example, cut)


@pytest.mark.parametrize("swapped", [False, True], ids=["subject first", "object first"])
def test_both_entities_are_kept_in_either_order(
    tokenizer: Tokenizer, tokenizer_file: Path, encoder: Encoder, swapped: bool
) -> None:
    spans = ((len(HEAD), len(HEAD) + 2), (len(HEAD) + 9, len(HEAD) + 10))
    example = marked(HEAD + CORE + TAIL, *(reversed(spans) if swapped else spans))
    room = len(encoder.encode(example)) - 5
    cut = window(tokenizer_file, room).encode(example)
    assert len(cut) == room
    check(tokenizer, example, cut)


@pytest.mark.parametrize(("head", "tail"), CONTEXTS)
def test_entities_that_just_fit_are_kept_without_their_context(
    tokenizer_file: Path, encoder: Encoder, head: str, tail: str
) -> None:
    core = core_ids(encoder)
    cut = window(tokenizer_file, len(core) + 2).encode(in_context(head, tail))
    assert cut.input_ids[1:-1].tolist() == core


@pytest.mark.parametrize(("head", "tail"), CONTEXTS)
@pytest.mark.parametrize("lacking", [1, 2, 10])
def test_entities_that_do_not_fit_together_are_refused(
    tokenizer_file: Path, encoder: Encoder, head: str, tail: str, lacking: int
) -> None:
    core = core_ids(encoder)
    with pytest.raises(InvalidExample) as refused:
        window(tokenizer_file, len(core) + 2 - lacking).encode(in_context(head, tail))
    (problem,) = refused.value.problems
    assert (problem.loc, problem.kind) == (("sentence",), "window")
    assert f"span {len(core)} tokens" in problem.message
    assert f"holds {len(core) - lacking}" in problem.message


def test_a_sentence_that_just_fits_is_not_cut(tokenizer_file: Path, encoder: Encoder) -> None:
    whole = encoder.encode(in_context(HEAD, TAIL))
    same = window(tokenizer_file, len(whole)).encode(in_context(HEAD, TAIL))
    shorter = window(tokenizer_file, len(whole) - 1).encode(in_context(HEAD, TAIL))
    assert (whole.truncated, same.truncated, shorter.truncated) == (False, False, True)
    assert same.input_ids.tolist() == whole.input_ids.tolist()
    assert len(shorter) == len(whole) - 1


@pytest.mark.parametrize(
    ("head", "tail", "room"),
    [
        pytest.param(HEAD * 5, "", -1, id="a token before"),
        pytest.param("", TAIL * 5, -1, id="a token after"),
        pytest.param(HEAD * 5, TAIL * 5, -20, id="on both sides"),
        pytest.param(" " * 500_000, TAIL, 0, id="half a million spaces, which are not tokenised"),
    ],
)
def test_a_sentence_that_is_cut_is_marked_as_truncated(
    tokenizer_file: Path, encoder: Encoder, head: str, tail: str, room: int
) -> None:
    example = in_context(head, tail)
    whole = encoder.encode(example)
    assert window(tokenizer_file, len(whole) + room).encode(example).truncated


def shipped() -> Tokenizer:
    """The tokenizer of the shipped bundle."""
    (path,) = DEFAULT_BUNDLE.glob("tokenizers/*.json")
    return Tokenizer.from_file(str(path))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        pytest.param("２０２４년 ＡＢＣ＠", "2024년 ABC@", id="full-width"),
        pytest.param("ㅋㅋ ㅏㅏ", "\u110f\u110f \u1161\u1161", id="compatibility jamo"),
        pytest.param("\uffa1\uffa1", "\u1100\u1100", id="half-width jamo"),
        pytest.param("강\u00a0하늘\u3000은\t무신", "강 하늘 은 무신", id="other spaces"),
        pytest.param("\uf9e1舜臣", "李舜臣", id="compatibility ideograph"),
        pytest.param("강\u200b하\u200d늘\ufeff은", "강 하 늘 은", id="zero-width characters"),
    ],
)
def test_the_shipped_tokenizer_reads_both_in_the_same_way(text: str, same: str) -> None:
    assert shipped().encode(text).ids == shipped().encode(same).ids


@pytest.mark.parametrize("text", ["강\u00ad하늘", "강\u2060하늘", "강\u200b하늘", "\u1100\u1161\u11bc하늘"])
def test_the_shipped_tokenizer_reads_these_in_another_way(text: str) -> None:
    """Decomposed text too: this is why an example is composed first."""
    assert shipped().encode(text).ids != shipped().encode("강하늘").ids


def test_an_entity_longer_than_the_window_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(InvalidExample, match=r"^sentence: .* too far apart"):
        window(tokenizer_file, 64).encode(words("강" * 500 + " 무신", "강" * 500, "무신"))


def encoded(length: int) -> Encoded:
    return Encoded(np.arange(100, 100 + length), np.array([1, length - 2]))


def test_a_batch_is_padded_on_the_right() -> None:
    batch = EncodedBatch.collate([encoded(4), encoded(6), encoded(5)], PAD)
    assert batch.input_ids.tolist() == [
        [100, 101, 102, 103, 1, 1],
        [100, 101, 102, 103, 104, 105],
        [100, 101, 102, 103, 104, 1],
    ]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]
    assert batch.entity_positions.tolist() == [[1, 2], [1, 4], [1, 3]]


@pytest.mark.parametrize("lengths", [[5], [5, 5], [9, 5, 7, 5]])
def test_a_batch_is_as_wide_as_its_longest_row(lengths: list[int]) -> None:
    batch = EncodedBatch.collate([encoded(length) for length in lengths], PAD)
    assert batch.input_ids.shape == batch.attention_mask.shape == (len(lengths), max(lengths))
    assert batch.entity_positions.shape == (len(lengths), 2)
    assert {array.dtype for array in (batch.input_ids, batch.attention_mask, batch.entity_positions)} == {
        np.dtype(np.int64)
    }
    assert batch.attention_mask.sum(axis=1).tolist() == lengths


def test_padding_has_the_given_id() -> None:
    assert EncodedBatch.collate([encoded(4), encoded(5)], pad_token_id=77).input_ids[0].tolist() == [
        100,
        101,
        102,
        103,
        77,
    ]


def test_a_real_row_is_the_same_in_a_batch(encoder: Encoder) -> None:
    alone = [encoder.encode(in_context(head, "")) for head in ("", HEAD, HEAD * 3)]
    batch = EncodedBatch.collate(alone, encoder.pad_token_id)
    for index, row in enumerate(alone):
        assert batch.input_ids[index, : len(row)].tolist() == row.input_ids.tolist()
        assert set(batch.input_ids[index, len(row) :].tolist()) <= {PAD}
        assert batch.entity_positions[index].tolist() == row.entity_positions.tolist()


@given(example=any_example())
@settings(max_examples=200, deadline=None)
def test_the_markers_are_at_their_places_in_any_text(
    tokenizer: Tokenizer, encoder: Encoder, example: Example
) -> None:
    check(tokenizer, example, encoder.encode(example))


@given(example=any_example(), data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_text_is_cut_to_the_window_or_refused(
    tokenizer: Tokenizer, tokenizer_file: Path, encoder: Encoder, example: Example, data: st.DataObject
) -> None:
    leading, trailing = sorted(
        (example.subject_entity, example.object_entity), key=lambda entity: entity.start_idx
    )
    between = text_ids(tokenizer, example.sentence[leading.end_idx + 1 : trailing.start_idx])
    needed = (
        len(mention_ids(tokenizer, leading, "@", "*"))
        + len(between)
        + len(mention_ids(tokenizer, trailing, "@", "*"))
        + 2
    )
    max_length = data.draw(st.integers(2, len(encoder.encode(example)) + 1))
    narrow = window(tokenizer_file, max_length)
    if needed > max_length:
        with pytest.raises(InvalidExample, match=r"^sentence: "):
            narrow.encode(example)
    else:
        cut = narrow.encode(example)
        assert len(cut) <= max_length
        check(tokenizer, example, cut)


def test_a_front_encodes_as_one_process_does(tokenizer_file: Path, encoder: Encoder, rows: list[Row]) -> None:
    front = Encoder.from_file(tokenizer_file, "typed_punctuation", WIDE, PAD, keep_lock=False)
    for example in map(Example.from_row, rows):
        one, other = encoder.encode(example), front.encode(example)
        assert one.input_ids.tolist() == other.input_ids.tolist()
        assert one.entity_spans.tolist() == other.entity_spans.tolist()


def test_eight_threads_encode_as_one_does(encoder: Encoder, rows: list[Row]) -> None:
    examples = [Example.from_row(row) for row in rows]
    alone = [encoder.encode(example) for example in examples]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(encoder.encode, examples * 4))
    assert [row.input_ids.tolist() for row in together] == [row.input_ids.tolist() for row in alone] * 4
    assert [row.entity_positions.tolist() for row in together] == [
        row.entity_positions.tolist() for row in alone
    ] * 4
