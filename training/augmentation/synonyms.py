"""Korean nouns and what may stand in their place.

The words come from a Korean WordNet (synonyms.tsv; its origin and licence are in NOTICE.md). To find them in
a sentence, kiwipiepy tells which morphemes are common nouns. Without it, a word is a noun if the WordNet
lists it once one particle
is taken off its end: it finds fewer (정부청사 is not taken apart) and now and then takes an ending for a
particle.
"""

import functools
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Span = tuple[int, int]
Morphemes = Literal["auto", "kiwi", "particles"]

# The longer before its own end, so that 에서는 is not taken for 는.
PARTICLES = (
    "에서는", "에서도", "으로는", "으로서", "에는", "에도", "에서", "에게", "으로", "로서", "까지", "부터", "보다", "처럼",
    "이나", "이며", "이다", "라는", "은", "는", "이", "가", "을", "를", "에", "의", "로", "와", "과", "도", "만", "인",
)  # fmt: skip

FIRST_SYLLABLE, LAST_SYLLABLE, FINALS, FINAL_RIEUL = 0xAC00, 0xD7A3, 28, 8


@functools.cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Every noun of the WordNet -> its synonyms over all senses, sorted, as far as the same particles fit
    behind them."""
    found: dict[str, set[str]] = {}
    for line in Path(__file__).with_name("synonyms.tsv").read_text(encoding="utf-8").splitlines():
        lemmas = line.split("\t")
        for lemma in lemmas:
            found.setdefault(lemma, set()).update(
                other for other in lemmas if other != lemma and ending(other) == ending(lemma)
            )
    return {lemma: tuple(sorted(others)) for lemma, others in found.items() if others}


def ending(word: str) -> int:
    """The kind of the last syllable, which decides between 이 and 가, 을 and 를, 으로 and 로: 0 open, 1 ㄹ, 2 another
    consonant."""
    if not FIRST_SYLLABLE <= ord(word[-1]) <= LAST_SYLLABLE:
        return 0
    final = (ord(word[-1]) - FIRST_SYLLABLE) % FINALS
    return 0 if final == 0 else 1 if final == FINAL_RIEUL else 2


def resolve(morphemes: Morphemes) -> Morphemes:
    """`kiwi` or `particles` for `auto`: kiwipiepy where it is installed; where it is not, that is said once
    on stderr.

    Raises:
        ValueError: `kiwi` is asked for and not installed.
    """
    if morphemes == "particles":
        return "particles"
    if has_kiwi():
        return "kiwi"
    if morphemes == "kiwi":
        raise ValueError("kiwipiepy is not installed: pip install '.[augment]'")
    _say_once(
        "kiwipiepy is not installed: nouns are found by their particles (pip install '.[augment]' for morphemes)"
    )
    return "particles"


def has_kiwi() -> bool:
    """Whether kiwipiepy is installed."""
    return importlib.util.find_spec("kiwipiepy") is not None


def nouns_by_particle(sentence: str) -> Iterator[Span]:
    """The nouns that have synonyms, as spans (start, end; end exclusive, in code points): whole runs of
    Hangul, or what is left of them without one particle."""
    known = synonyms()
    for run in re.finditer("[가-힣]+", sentence):
        text = run.group()
        stems = [text, *(text.removesuffix(particle) for particle in PARTICLES if text.endswith(particle))]
        if noun := next((stem for stem in stems if stem in known), None):
            yield run.start(), run.start() + len(noun)


@functools.lru_cache(maxsize=2**16)  # a millisecond a sentence, asked anew for every copy of it
def nouns_by_kiwi(sentence: str) -> tuple[Span, ...]:
    """The nouns that have synonyms, as `nouns_by_particle` gives them: morphemes that kiwipiepy takes for
    common nouns."""
    spans = ((token, token.start, token.start + token.len) for token in _kiwi().tokenize(sentence))
    # A contracted or normalised morpheme is not spelt as it stands in the sentence.
    return tuple(
        (start, end)
        for token, start, end in spans
        if token.tag == "NNG" and token.form in synonyms() and sentence[start:end] == token.form
    )


@functools.cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


@functools.cache
def _say_once(message: str) -> None:
    print(message, file=sys.stderr)
