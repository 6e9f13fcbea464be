"""The nouns of a sentence that can be replaced by a synonym, found by kiwipiepy's morphemes.

A noun stays where it can be part of a name: 한국 배우 협회 is not 한국 연기자 협회.
"""

import functools
import importlib.util
from dataclasses import dataclass, replace
from typing import Any, Final

from training.augmentation.synonyms import ending, particle, synonyms

NAMES: Final = ("N", "SL", "SH", "SN", "XR", "XSN")
"""How the tags of nouns, numbers, foreign letters and their suffixes begin."""
PUNCTUATION: Final = ("SF", "SP", "SSO", "SSC")


@dataclass(frozen=True, slots=True)
class Noun:
    """A common noun with synonyms.

    Attributes:
        start, end: its span with its particle, in code points; `end` is exclusive.
        synonyms: what can be put there, without a particle.
        replacements: the same with the particle, which takes the form that the synonym needs.
    """

    start: int
    end: int
    synonyms: tuple[str, ...]
    replacements: tuple[str, ...]

    def within(self, start: int) -> "Noun":
        """The noun with a span that counts from `start`."""
        return replace(self, start=self.start - start, end=self.end - start)


def require_kiwi() -> None:
    """Raises ValueError if kiwipiepy is not installed."""
    if importlib.util.find_spec("kiwipiepy") is None:
        raise ValueError("kiwipiepy is not installed; run: pip install '.[augment]'")


@functools.lru_cache(maxsize=2**16)  # a sentence takes a millisecond, and each of its copies needs it again
def nouns(sentence: str) -> tuple[Noun, ...]:
    """The nouns that can be replaced, in their order.

    1. It is a common noun (NNG) of the table, spelled as there, at the start of a word.
    2. It is not between quotation marks or brackets, where titles are.
    3. No noun, number or foreign word precedes it without a particle, and none follows it so.
    4. After it, only a particle, the plural 들, the copula 이다 or punctuation is in the word.
    """
    found, depth = [], 0
    tokens = _kiwi().tokenize(sentence)
    for index, token in enumerate(tokens):
        depth = max(0, depth + (token.tag == "SSO") - (token.tag == "SSC"))
        if depth == 0 and _stands_alone(tokens, index, sentence):
            after = tokens[index + 1] if index + 1 < len(tokens) else None
            if noun := _noun(token, after, sentence):
                found.append(noun)
    return tuple(found)


def _stands_alone(tokens: list[Any], index: int, sentence: str) -> bool:
    """Rules 1 and 3."""
    token = tokens[index]
    end = token.start + token.len
    if token.tag != "NNG" or token.form not in synonyms() or sentence[token.start : end] != token.form:
        return False
    starts_word = token.start == 0 or sentence[token.start - 1].isspace()
    follows_name = index > 0 and tokens[index - 1].tag.startswith(NAMES)
    next_word = index + 1 < len(tokens) and tokens[index + 1].start > end
    return starts_word and not follows_name and not (next_word and tokens[index + 1].tag.startswith(NAMES))


def _noun(token: Any, after: Any, sentence: str) -> Noun | None:
    """Rule 4."""
    end = token.start + token.len
    choices = synonyms()[token.form]
    bare = after is None or after.start > end or after.tag in PUNCTUATION
    if bare or (after.tag, after.form) == ("XSN", "들"):
        return Noun(token.start, end, choices, choices)
    if after.tag == "VCP":  # 이다 is contracted after an open syllable
        choices = tuple(choice for choice in choices if bool(ending(choice)) == bool(ending(token.form)))
        return Noun(token.start, end, choices, choices) if choices else None
    stop = end + after.len
    if not after.tag.startswith("J") or sentence[end:stop] != after.form:
        return None
    return Noun(
        token.start, stop, choices, tuple(choice + particle(choice, after.form) for choice in choices)
    )


@functools.cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)
