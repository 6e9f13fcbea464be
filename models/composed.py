"""Text in Unicode's composed form (NFC), and where its characters are in the text as sent.

The same sentence can reach us in two forms. macOS writes 각 as the three code points ㄱ, ㅏ and ㄱ
(decomposed), most other programs as one (composed). The models know only the composed form.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from typing import Final
from unicodedata import combining, decomposition, is_normalized, normalize

LONGEST_GROUP: Final = 64
"""In code points. Python composes a group in quadratic time: a megabyte of accents would take hours."""

_nfc = partial(normalize, "NFC")


def compose(text: str) -> str:
    """The text in composed form."""
    return text if is_normalized("NFC", text) else "".join(map(_nfc, _groups(text)))


@dataclass(frozen=True, slots=True)
class ComposedText:
    """A text in composed form. Build it with `of`.

    A text is composed in groups: a code point with those after it that can combine with it. A group begins
    at `sent_starts[n]` in the text as sent and at `starts[n]` in the composed text. Both are empty if the two
    texts are equal.
    """

    text: str
    sent: str
    starts: tuple[int, ...] = ()
    sent_starts: tuple[int, ...] = ()

    @classmethod
    def of(cls, sent: str) -> "ComposedText":
        """Compose a text, in linear time."""
        if is_normalized("NFC", sent):
            return cls(sent, sent)
        groups = _groups(sent)
        composed = list(map(_nfc, groups))
        starts, sent_starts = (tuple(accumulate(map(len, parts), initial=0)) for parts in (composed, groups))
        return cls("".join(composed), sent, starts, sent_starts)

    def offset(self, sent: int) -> int | None:
        """The offset in `text` of an offset of `sent`; None inside a composed character."""
        if not self.starts:
            return sent
        group = bisect_right(self.sent_starts, sent) - 1
        first = self.sent_starts[group]
        if first == sent:
            return self.starts[group]
        stop = self.sent_starts[group + 1]
        before, after = _nfc(self.sent[first:sent]), _nfc(self.sent[sent:stop])
        whole = before + after == _nfc(self.sent[first:stop])
        return self.starts[group] + len(before) if whole else None

    def origin(self, offset: int) -> int:
        """The offset in `sent` of an offset of `text`: of the group that it is in."""
        return self.sent_starts[bisect_right(self.starts, offset) - 1] if self.starts else offset

    def group_at(self, sent: int) -> tuple[int, int]:
        """The first and the last offset in `sent` of the group that holds this one."""
        if not self.starts:
            return sent, sent
        group = bisect_right(self.sent_starts, sent) - 1
        return self.sent_starts[group], self.sent_starts[group + 1] - 1


def _groups(text: str) -> list[str]:
    groups: list[str] = _grouping().findall(text)
    return groups


@cache
def _grouping() -> re.Pattern[str]:
    """Matches a code point and those after it that can combine with it.

    These are the combining marks, the vowels and final consonants of Hangul, and each second half of a
    composition. Found once, in some 20 ms, when the first text needs it.
    """
    characters = list(map(chr, range(0x20000)))  # there are none above
    followers = {*characters[0x1161:0x1176], *characters[0x11A8:0x11C3], *filter(combining, characters)}
    for character in filter(decomposition, characters):
        decomposed = normalize("NFD", character)
        followers.update(decomposed[1:], character if combining(decomposed[0]) else "")
    return re.compile(f".[{re.escape(''.join(sorted(followers)))}]{{0,{LONGEST_GROUP - 1}}}", re.DOTALL)
