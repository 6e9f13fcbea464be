"""A sentence as words. A word that contains an entity is fixed: augmentation does not change it.

The whole word is fixed, particles included. In 세종의 아들 문종 the particle shows who is the parent, so a
change to it would make the label false.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.example import Entity, Example, Mention


@dataclass(frozen=True, slots=True)
class Word:
    """A run of characters between white space, with the white space before it.

    Attributes:
        opens: (field, offset) for each entity of the example that begins in this word, offsets in code
            points.
    """

    text: str
    space: str
    opens: tuple[tuple[str, int], ...] = ()

    @property
    def fixed(self) -> bool:
        return bool(self.opens)


def split(example: Example) -> tuple[list[Word], str]:
    """The words of an example, and the white space after the last word.

    White space within an entity does not split it.
    """
    sentence, entities = example.sentence, _entities(example)
    inside = {index for entity in entities.values() for index in range(entity.start_idx, entity.end_idx + 1)}
    blank = [character.isspace() and index not in inside for index, character in enumerate(sentence)]
    # Where words begin and end, and both ends of the sentence.
    edges = [
        0,
        *(index for index in range(1, len(sentence)) if blank[index] != blank[index - 1]),
        len(sentence),
    ]
    words, space = [], ""
    for start, end in pairwise(edges):
        if blank[start]:
            space = sentence[start:end]
            continue
        opens = tuple(
            (field, entity.start_idx - start)
            for field, entity in entities.items()
            if start <= entity.start_idx < end
        )
        words.append(Word(sentence[start:end], space, opens))
        space = ""
    return words, space


def free(words: Sequence[Word], example: Example) -> list[int]:
    """The places of the words in which neither entity occurs.

    A second mention of an entity is not free, because the label can depend on it.
    """
    entities = example.subject_entity.word, example.object_entity.word
    return [
        place
        for place, word in enumerate(words)
        if not word.fixed and not any(entity in word.text for entity in entities)
    ]


def starts(words: Sequence[Word]) -> Iterator[int]:
    """The index in the sentence at which each word's text begins."""
    position = 0
    for word in words:
        position += len(word.space)
        yield position
        position += len(word.text)


def join(words: Sequence[Word], space: str, original: Example) -> Example:
    """The example of the changed words, with the entities of `original` at their new places.

    Raises:
        InvalidExample: a fixed word was changed.
    """
    sentence = "".join(word.space + word.text for word in words) + space
    begins = {
        field: start + offset
        for word, start in zip(words, starts(words), strict=True)
        for field, offset in word.opens
    }
    mentions = {
        field: Mention(
            entity.word, begins[field], begins[field] + entity.end_idx - entity.start_idx, entity.type
        )
        for field, entity in _entities(original).items()
    }
    return Example.resolve(sentence, **mentions)


def insert(words: Sequence[Word], place: int, text: str) -> list[Word]:
    """Put a word before the word at `place`, or after the last word, with a space on both sides."""
    if place == len(words):
        return [*words, Word(text, " ")]
    follower = words[place]
    return [
        *words[:place],
        Word(text, follower.space),
        Word(follower.text, " ", follower.opens),
        *words[place + 1 :],
    ]


def delete(words: Sequence[Word], place: int) -> list[Word]:
    """Remove a word and one of the two spaces around it."""
    rest = list(words[place + 1 :])
    if rest:
        rest[0] = Word(rest[0].text, words[place].space, rest[0].opens)
    return [*words[:place], *rest]


def _entities(example: Example) -> dict[str, Entity]:
    return {"subject_entity": example.subject_entity, "object_entity": example.object_entity}
