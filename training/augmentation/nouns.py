"""The nouns of a sentence that have synonyms, found by kiwipiepy's morphemes."""

import functools
import importlib.util

from training.augmentation.synonyms import synonyms

Span = tuple[int, int]


def require_kiwi() -> None:
    """Raises ValueError if kiwipiepy is not installed."""
    if importlib.util.find_spec("kiwipiepy") is None:
        raise ValueError("kiwipiepy is not installed; run: pip install '.[augment]'")


@functools.lru_cache(maxsize=2**16)  # a sentence takes a millisecond, and each of its copies needs it again
def nouns(sentence: str) -> tuple[Span, ...]:
    """Spans (start, end) of the common nouns that have synonyms, in code points; `end` is exclusive."""
    spans = ((token, token.start, token.start + token.len) for token in _kiwi().tokenize(sentence))
    # A contracted or normalised morpheme has another spelling in the sentence. It is skipped.
    return tuple(
        (start, end)
        for token, start, end in spans
        if token.tag == "NNG" and token.form in synonyms() and sentence[start:end] == token.form
    )


@functools.cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)
