"""Checks a tokenizer before a text reaches it: its file is data, but it can ask for hours or terabytes.

1. Growth: the texts that its normalizer inserts must not make a text much longer. A few replacements in a
   row, each of a letter by ten, would fill any memory.
2. Time: it reads texts made of `UNITS`, each twice as long as the one before. A regular expression
   that backtracks takes far too long for one of them.

This finds mistakes and plain traps. It cannot find every text for which an expression is slow.
"""

import json
import math
import time
from typing import Any, Final

from tokenizers import Tokenizer

MOST_GROWTH: Final = 1000
"""How many times as long the normalizer can make a text. One character becomes three or four at most, a few
times."""

UNITS: Final = ("a", "가", "0", " ", "-", "가나 ", "a0")
END: Final = "!b x\n"
"""The end of each text. Most expressions backtrack because a text does not go on as they want."""

MOST_CHARACTERS: Final = 4096
"""About the longest text that a server reads on its event loop (api/reading.py)."""

MOST_S: Final = 0.5
"""CPU time for such a text. A usual tokenizer takes a hundredth of it."""


def check(tokenizer: Tokenizer) -> None:
    """
    Raises:
        ValueError: the tokenizer makes a text too long, takes too long, or fails.
    """
    normalizer = tokenizer.normalizer
    inserted = [] if normalizer is None else _inserted(json.loads(normalizer.__getstate__()))
    growth = math.prod(max(1, length) for length in inserted)
    if growth > MOST_GROWTH:
        raise ValueError(
            f"its normalizer can make a text {growth} times as long; {MOST_GROWTH} times is the most"
        )
    for unit in UNITS:
        characters = 1
        while characters <= MOST_CHARACTERS:
            text = unit * math.ceil(characters / len(unit)) + END
            if _seconds(tokenizer, text) > MOST_S:
                raise ValueError(
                    f"it takes more than {MOST_S:g} s for {len(text)} characters: {unit!r} again and again; "
                    f"look for regular expressions that backtrack"
                )
            characters *= 2


def explain(failure: BaseException) -> ValueError:
    """A failure of the tokenizers library as an ordinary exception; any other failure is raised again.

    A panic, as when a regular expression gives up, is no `Exception`: it would pass every handler.
    """
    if type(failure).__name__ != "PanicException":
        raise failure
    return ValueError(f"the tokenizer fails: {' '.join(str(failure).split())}")


def _inserted(part: Any) -> list[int]:
    """The lengths of the texts that a normalizer inserts, in the order of its JSON."""
    if isinstance(part, list):
        return [length for each in part for length in _inserted(each)]
    if not isinstance(part, dict):
        return []
    own = {"Replace": "content", "Prepend": "prepend"}.get(part.get("type", ""))
    return [len(part[own])] if own else [length for each in part.values() for length in _inserted(each)]


def _seconds(tokenizer: Tokenizer, text: str) -> float:
    """CPU time of this thread, so that other programs do not count. Other threads can run meanwhile."""
    began = time.thread_time()
    try:
        tokenizer.encode_batch_fast([text])
    except BaseException as failure:
        raise explain(failure) from None
    return time.thread_time() - began
