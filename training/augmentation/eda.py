"""Easy data augmentation: synonym replacement, random insertion, random swap, random deletion.

Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
2019 (arXiv:1901.11196), as KoEDA adapts it to Korean: each new row is made by one of the four operations,
chosen at random, with 0.1 for all parameters. Unlike KoEDA, only whole words are moved and deleted, because
in Korean the order of words is free, but a particle must follow its noun. As in the paper, a label can become
false: a deleted 않 turns a sentence into its opposite.
"""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from models.example import Example
from training.augmentation.nouns import nouns, require_kiwi
from training.augmentation.synonyms import synonyms
from training.augmentation.variants import Augmentation
from training.augmentation.words import Word, delete, free, insert, join, split, starts


class Eda(Augmentation):
    """The four operations, on words in which neither entity occurs. A parameter of 0 turns one off."""

    method: Literal["eda"] = "eda"
    alpha_sr: float = Field(
        0.1, ge=0, le=1, description="Synonym replacement: replaced nouns as a share of the sentence's words."
    )
    alpha_ri: float = Field(
        0.1, ge=0, le=1, description="Random insertion: inserted synonyms as a share of the sentence's words."
    )
    alpha_rs: float = Field(
        0.1, ge=0, le=1, description="Random swap: swaps as a share of the sentence's words."
    )
    p_rd: float = Field(0.1, ge=0, le=1, description="Random deletion: probability that a word is deleted.")

    @model_validator(mode="after")
    def _check_kiwi(self) -> Self:
        if self.alpha_sr or self.alpha_ri:
            require_kiwi()
        return self

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        words, space = split(example)
        operations = [
            (self.alpha_sr, self._replace),
            (self.alpha_ri, self._insert),
            (self.alpha_rs, self._swap),
            (self.p_rd, self._delete),
        ]
        possible = [(strength, operate) for strength, operate in operations if strength]
        # Tried in random order until one changes the sentence: without nouns, words can still be swapped.
        for index in generator.permutation(len(possible)):
            strength, operate = possible[index]
            changed = operate(words, strength, generator, example)
            if changed != words:
                return join(changed, space, example)
        return None

    def _replace(
        self, words: list[Word], alpha: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        found = self._nouns(words, example)
        chosen = generator.permutation(len(found))[: _times(alpha, words)]
        changed = list(words)
        # from the end of the sentence, so that the earlier spans stay valid
        for place, start, end in sorted((found[index] for index in chosen), reverse=True):
            text = changed[place].text
            changed[place] = Word(
                text[:start] + _pick(synonyms()[text[start:end]], generator) + text[end:],
                changed[place].space,
            )
        return changed

    def _insert(
        self, words: list[Word], alpha: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        found = self._nouns(words, example)
        changed = list(words)
        for _ in range(_times(alpha, words) if found else 0):
            place, start, end = found[generator.integers(len(found))]
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
        """(word, start, end) of the nouns in free words; start and end count within the word."""
        begins = list(starts(words))
        placed = [
            (place, begins[place], begins[place] + len(words[place].text)) for place in free(words, example)
        ]
        return [
            (place, start - low, end - low)
            for start, end in nouns(example.sentence)
            for place, low, high in placed
            if low <= start and end <= high
        ]


def _times(alpha: float, words: list[Word]) -> int:
    """How often an operation is applied: n = αl in the paper, at least once."""
    return max(1, int(alpha * len(words)))


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[generator.integers(len(choices))]
