"""Synonyms of Korean common nouns (synonyms.tsv), and the particles that follow them.

Each line of the table is a group of nouns that can replace each other in a sentence. The groups were written
for this project, by these rules:

1. Both nouns mean the same in their commonest sense. Nouns with two common senses (의사, 사과) are left out.
2. No noun is ruder, older or more honorific than the others (여편네 for 여자).
3. No noun is also a well-known name (선조).
"""

import functools
from pathlib import Path
from typing import Final

SYNONYMS: Final = Path(__file__).with_name("synonyms.tsv")
FIRST_SYLLABLE, LAST_SYLLABLE, FINALS, FINAL_RIEUL = 0xAC00, 0xD7A3, 28, 8

PAIRS: Final = (
    {"은": "는", "이": "가", "을": "를", "과": "와"}
    | {f"으로{rest}": f"로{rest}" for rest in ("", "서", "써", "부터")}
    | {f"이{rest}": rest for rest in ("나", "랑", "란", "라도", "든", "든지", "며", "야", "야말로", "라고")}
)
"""Particles after a final consonant, each with its form after an open syllable."""


@functools.cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Each noun of the table with its synonyms."""
    groups = [line.split("\t") for line in SYNONYMS.read_text(encoding="utf-8").splitlines()]
    return {noun: tuple(other for other in group if other != noun) for group in groups for noun in group}


def particle(noun: str, form: str) -> str:
    """A particle in its form after a noun: 가 after 남자, 이 after 남성. Most particles have one form."""
    kind = ending(noun)
    for closed, open_ in PAIRS.items():
        if form in (closed, open_):
            rieul = kind == 1 and closed.startswith("으로")  # 길로, as after an open syllable
            return open_ if kind == 0 or rieul else closed
    return form


def ending(word: str) -> int:
    """The kind of a word's last syllable: 0 open, 1 with ㄹ, 2 with another final consonant."""
    if not FIRST_SYLLABLE <= ord(word[-1]) <= LAST_SYLLABLE:
        return 0
    final = (ord(word[-1]) - FIRST_SYLLABLE) % FINALS
    return 0 if final == 0 else 1 if final == FINAL_RIEUL else 2
