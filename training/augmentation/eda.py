"""Easy data augmentation: synonym replacement, random insertion, random swap, random deletion.

Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
2019 (arXiv:1901.11196), as KoEDA adapts it to Korean: each new row comes out of one of the four, chosen at
random, with 0.1 for all parameters. Unlike KoEDA, words are moved and deleted whole, never their morphemes:
Korean leaves the order of words free, not that of a noun and its particle. What the paper accepts remains: a
deleted 않 turns a sentence into its opposite.
"""

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from models.example import Example
from training.augmentation.synonyms import Morphemes, nouns_by_kiwi, nouns_by_particle, resolve, synonyms
from training.augmentation.variants import Augmentation
from training.augmentation.words import Word, delete, free, insert, join, split, starts


class Eda(Augmentation):
    """The four operations over the words in which neither entity occurs. An operation whose parameter is 0 is
    left out."""

    method: Literal["eda"] = "eda"
    alpha_sr: float = Field(
        0.1, ge=0, le=1, description="synonym replacement: nouns replaced, per word of the sentence"
    )
    alpha_ri: float = Field(
        0.1, ge=0, le=1, description="random insertion: synonyms inserted, per word of the sentence"
    )
    alpha_rs: float = Field(0.1, ge=0, le=1, description="random swap: swaps, per word of the sentence")
    p_rd: float = Field(0.1, ge=0, le=1, description="random deletion: chance of each word")
    morphemes: Morphemes = Field(
        "auto", validate_default=True, description="how nouns are found: kiwi, particles, or auto"
    )

    @field_validator("morphemes")
    @classmethod
    def _resolve_morphemes(cls, morphemes: Morphemes) -> Morphemes:
        return resolve(morphemes)

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        words, space = split(example)
        operations = [
            (self.alpha_sr, self._replace),
            (self.alpha_ri, self._insert),
            (self.alpha_rs, self._swap),
            (self.p_rd, self._delete),
        ]
        possible = [(strength, operate) for strength, operate in operations if strength]
        # In random order until one changes something: a sentence without nouns can still be swapped.
        for index in generator.permutation(len(possible)):
            strength, operate = possible[index]
            changed = operate(words, strength, generator, example)
            if changed != words:
                return join(changed, space, example)
        return None

    def _replace(
        self, words: list[Word], alpha: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        nouns = self._nouns(words, example)
        chosen = generator.permutation(len(nouns))[: _times(alpha, words)]
        changed = list(words)
        # from behind, so that spans stay right
        for place, start, end in sorted((nouns[index] for index in chosen), reverse=True):
            text = changed[place].text
            changed[place] = Word(
                text[:start] + _pick(synonyms()[text[start:end]], generator) + text[end:],
                changed[place].space,
            )
        return changed

    def _insert(
        self, words: list[Word], alpha: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        nouns = self._nouns(words, example)
        changed = list(words)
        for _ in range(_times(alpha, words) if nouns else 0):
            place, start, end = nouns[generator.integers(len(nouns))]
            synonym = _pick(synonyms()[words[place].text[start:end]], generator)
            changed = insert(changed, int(generator.integers(len(changed) + 1)), synonym)
        return changed

    def _swap(
        self, words: list[Word], alpha: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        places = free(words, example)
        changed = list(words)
        for _ in range(_times(alpha, words) if len(places) > 1 else 0):
            one, other = generator.choice(places, 2, replace=False)
            first, second = changed[one], changed[other]
            changed[one], changed[other] = Word(second.text, first.space), Word(first.text, second.space)
        return changed

    def _delete(
        self, words: list[Word], p: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        changed = list(words)
        for place in reversed([place for place in free(words, example) if generator.random() < p]):
            changed = delete(changed, place)
        return changed

    def _nouns(self, words: list[Word], example: Example) -> list[tuple[int, int, int]]:
        """(word, start, end) of the nouns in free words; start and end within the word's text."""
        find_nouns = nouns_by_kiwi if self.morphemes == "kiwi" else nouns_by_particle
        begins = list(starts(words))
        placed = [
            (place, begins[place], begins[place] + len(words[place].text)) for place in free(words, example)
        ]
        return [
            (place, start - low, end - low)
            for start, end in find_nouns(example.sentence)
            for place, low, high in placed
            if low <= start and end <= high
        ]


def _times(alpha: float, words: list[Word]) -> int:
    """How often an operation is done: n = αl in the paper, at least once."""
    return max(1, int(alpha * len(words)))


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[generator.integers(len(choices))]
