"""A tokenizer that takes too long, fills the memory or fails is refused before it reads a user's text."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEFAULT_BUNDLE
from manifests import sign
from tokenizer_kinds import byte_level, unigram, word_piece
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from models.bundle import Bundle, BundleRefused
from models.bundle_encoder import BundleEncoder
from models.encoding import Encoder
from models.example import Example
from models.tokenizer_check import check


def split_by(pattern: str) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")

    return change


def normalise_by(*steps: normalizers.Normalizer) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.Sequence(list(steps))

    return change


TRAPS = [
    pytest.param(split_by(r"(a+)+$"), "fails|takes more than", id="exponential"),
    pytest.param(split_by(r"(\s+)+$"), "fails|takes more than", id="exponential over spaces"),
    pytest.param(split_by(r"(\w+\s?)+$"), "fails|takes more than", id="exponential over words"),
    pytest.param(split_by(r"a*a*a*b"), "fails|takes more than", id="cubic"),
    pytest.param(
        normalise_by(normalizers.Replace(Regex(r"(\S+)+\d"), "")), "fails|takes more", id="normalizer"
    ),
    pytest.param(normalise_by(*[normalizers.Replace("a", "a" * 10)] * 40), "times as long", id="growth"),
    pytest.param(normalise_by(normalizers.Prepend("a" * 10**7)), "times as long", id="a long beginning"),
]


@pytest.mark.parametrize(("change", "said"), TRAPS)
def test_a_bundle_whose_tokenizer_is_a_trap_is_refused(
    change: Callable[[Tokenizer], None], said: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    file = copy / Bundle.open(copy).manifest.members[0].encoding.tokenizer
    tokenizer = Tokenizer.from_file(str(file))
    change(tokenizer)
    tokenizer.save(str(file))
    sign(copy)
    with pytest.raises(BundleRefused, match=said) as refused:
        BundleEncoder(Bundle.open(copy))
    assert "\n" not in str(refused.value)
    assert file.name in str(refused.value)


@pytest.mark.parametrize("kind", [word_piece, unigram, byte_level])
def test_usual_tokenizers_pass(kind: Callable[[bool], Tokenizer]) -> None:
    check(kind(True))


def test_the_default_bundles_tokenizer_passes() -> None:
    BundleEncoder(Bundle.open(DEFAULT_BUNDLE))


def test_a_length_that_the_file_asks_to_fill_is_ignored(tmp_path: Path) -> None:
    tokenizer = word_piece(True)
    tokenizer.enable_padding(length=10**9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder.from_file(tmp_path / "tokenizer.json", "typed_punctuation", 64, 0)
    assert len(encoder.encode(asked("가"))) < 64


def test_a_tokenizer_that_fails_on_one_text_fails_that_request_only(tmp_path: Path) -> None:
    tokenizer = word_piece(True)
    split_by(r"(z+)+[^z]$")(tokenizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder.from_file(tmp_path / "tokenizer.json", "typed_punctuation", 64, 0)
    with pytest.raises(ValueError, match="the tokenizer fails"):
        encoder.encode(asked("z" * 60))
    assert len(encoder.encode(asked("가"))) < 64


def test_a_tokenizer_of_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"normalizer":' * 100_000)
    with pytest.raises(Exception, match="recursion limit"):
        Encoder.from_file(tmp_path / "tokenizer.json", "typed_punctuation", 64, 0)


def asked(word: str) -> Example:
    entity = {"word": word, "start_idx": 0, "end_idx": len(word) - 1, "type": "PER"}
    other = {"word": "나", "start_idx": len(word) + 1, "end_idx": len(word) + 1, "type": "PER"}
    return Example.from_row({"sentence": f"{word} 나", "subject_entity": entity, "object_entity": other})
