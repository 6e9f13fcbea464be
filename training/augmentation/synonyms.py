"""Synonyms of Korean nouns, from a Korean WordNet (synonyms.tsv; NOTICE.md has its origin and licence)."""

import functools
from pathlib import Path

FIRST_SYLLABLE, LAST_SYLLABLE, FINALS, FINAL_RIEUL = 0xAC00, 0xD7A3, 28, 8


@functools.cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Each noun of the WordNet with its synonyms over all senses, sorted.

    A synonym is left out when other particles would have to follow it.
    """
    found: dict[str, set[str]] = {}
    for line in Path(__file__).with_name("synonyms.tsv").read_text(encoding="utf-8").splitlines():
        lemmas = line.split("\t")
        for lemma in lemmas:
            found.setdefault(lemma, set()).update(
                other for other in lemmas if other != lemma and ending(other) == ending(lemma)
            )
    return {lemma: tuple(sorted(others)) for lemma, others in found.items() if others}


def ending(word: str) -> int:
    """The kind of a word's last syllable: 0 open, 1 with ㄹ, 2 with another final consonant.

    It decides between the particles 이 and 가, 을 and 를, 으로 and 로.
    """
    if not FIRST_SYLLABLE <= ord(word[-1]) <= LAST_SYLLABLE:
        return 0
    final = (ord(word[-1]) - FIRST_SYLLABLE) % FINALS
    return 0 if final == 0 else 1 if final == FINAL_RIEUL else 2
