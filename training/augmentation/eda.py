"""Easy data augmentation: synonym replacement, random insertion, random swap, random deletion.

Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
2019 (arXiv:1901.11196). Each new row is made by one of the four operations, chosen at random. Only whole
words are moved and deleted, because in Korean the order of words is free, but a particle must follow its
noun. As in the paper, a label can become false: a deleted 않 turns a sentence into its opposite.
"""

from typing import Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from models.example import Example
from training.augmentation.nouns import Noun, nouns, require_kiwi
from training.augmentation.variants import Augmentation
from training.augmentation.words import Word, delete, free, insert, join, split, starts

SHARE: Final = "as a share of the sentence's words."
DEFAULT: Final = "Default: 0.1; 0.05 with 8 or more `copies`."
MANY_COPIES: Final = 8
FEW, OFTEN = 0.05, 0.1
"""The paper's recommended parameters (table 3). Up to 2,000 rows: 8 to 16 copies, 0.05; more rows: 4 copies,
0.1."""


class Eda(Augmentation):
    """The four operations, on words in which neither entity occurs. A parameter of 0 turns one off.

    A parameter that is not given is 0.1, or 0.05 with 8 or more `copies`.
    """

    method: Literal["eda"] = "eda"
    alpha_sr: float | None = Field(
        None, ge=0, le=1, description=f"Synonym replacement: replaced nouns {SHARE} {DEFAULT}"
    )
    alpha_ri: float | None = Field(
        None, ge=0, le=1, description=f"Random insertion: inserted synonyms {SHARE} {DEFAULT}"
    )
    alpha_rs: float | None = Field(None, ge=0, le=1, description=f"Random swap: swaps {SHARE} {DEFAULT}")
    p_rd: float | None = Field(
        None, ge=0, le=1, description=f"Random deletion: probability that a word is deleted. {DEFAULT}"
    )

    @model_validator(mode="after")
    def _check_kiwi(self) -> Self:
        if self._strength(self.alpha_sr) or self._strength(self.alpha_ri):
            require_kiwi()
        return self

    def _strength(self, given: float | None) -> float:
        """A parameter as given, or the paper's for this number of copies."""
        if given is not None:
            return given
        return FEW if (self.copies or 1) >= MANY_COPIES else OFTEN

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        words, space = split(example)
        operations = [
            (self.alpha_sr, self._replace),
            (self.alpha_ri, self._insert),
            (self.alpha_rs, self._swap),
            (self.p_rd, self._delete),
        ]
        strengths = ((self._strength(given), operate) for given, operate in operations)
        possible = [(strength, operate) for strength, operate in strengths if strength]
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
        for place, noun in sorted((found[index] for index in chosen), key=lambda each: -each[1].start):
            text = changed[place].text
            new = text[: noun.start] + _pick(noun.replacements, generator) + text[noun.end :]
            changed[place] = Word(new, changed[place].space)
        return changed

    def _insert(
        self, words: list[Word], alpha: float, generator: np.random.Generator, example: Example
    ) -> list[Word]:
        found = self._nouns(words, example)
        changed = list(words)
        for _ in range(_times(alpha, words) if found else 0):
            _, noun = found[generator.integers(len(found))]
            synonym = _pick(noun.synonyms, generator)
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

    def _nouns(self, words: list[Word], example: Example) -> list[tuple[int, Noun]]:
        """(word, noun) of the nouns in free words. The nouns' spans count within the word."""
        begins = list(starts(words))
        return [
            (place, noun.within(begins[place]))
            for noun in nouns(example.sentence)
            for place in free(words, example)
            if begins[place] <= noun.start and noun.end <= begins[place] + len(words[place].text)
        ]


def _times(alpha: float, words: list[Word]) -> int:
    """How often an operation is applied: n = αl in the paper, at least once."""
    return max(1, int(alpha * len(words)))


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[generator.integers(len(choices))]
