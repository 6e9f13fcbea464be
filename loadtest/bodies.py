"""Request bodies for three kinds of traffic, made of the shipped sentences or of given rows, and the check of
their answers."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loadtest.outcomes import NO_ANSWER, RIGHT, WRONG_ANSWER
from loadtest.sentences import Row, make_long_rows

Traffic = Literal["single", "batch", "mixed"]

BATCH_SIZE = 16
"""Examples in each request of batch traffic."""
BODIES = 2000
"""Different requests of a run; it starts again after the last one."""
ENTITIES = ("subject_entity", "object_entity")


class UnusableRows(ValueError):
    """A file of rows that cannot be sent; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON document of one request, and the number of examples in it."""

    document: dict[str, Any]
    examples: int


def read_rows(path: Path | None) -> list[Row]:
    """Rows of KLUE-RE, or other examples of `POST /relations`, one JSON object a line. None: shipped
    sentences.

    Raises:
        UnusableRows: the file is missing or empty, or a line is not an object with a sentence and two
        entities.
    """
    if path is None:
        return make_long_rows(BODIES)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableRows(f"{path}: {error}") from None
    rows = [_read_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise UnusableRows(f"{path}: no rows")
    return rows


def _read_row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UnusableRows(f"{place}: {error}") from None
    kinds = {"sentence": str} | dict.fromkeys(ENTITIES, dict)
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in kinds.items()):
        raise UnusableRows(
            f"{place}: a row must be an object with sentence, subject_entity and object_entity"
        )
    return row


def make_bodies(traffic: Traffic, rows: Sequence[Row], seed: int = 5) -> list[Body]:
    """The requests of one kind of traffic; the same rows and seed give the same requests."""
    generator = random.Random(seed)
    return [MAKERS[traffic](rows, generator) for _ in range(BODIES)]


def _single(rows: Sequence[Row], generator: random.Random) -> Body:
    return Body(dict(generator.choice(rows)), 1)


def _batch(rows: Sequence[Row], generator: random.Random) -> Body:
    return Body({"examples": generator.choices(rows, k=BATCH_SIZE)}, BATCH_SIZE)


def _mixed(rows: Sequence[Row], generator: random.Random) -> Body:
    """Many kinds of callers. Four of five requests hold one example, and a third of these name their entities
    by the word alone. The others hold 2 to 16 examples. Callers ask for the best 1, 3 or 30 relations."""
    top_k = {"top_k": generator.choice([1, 3, 30])}
    if generator.random() < 0.2:
        count = generator.randint(2, BATCH_SIZE)
        return Body({"examples": generator.choices(rows, k=count)} | top_k, count)
    row = generator.choice(rows)
    return Body((_by_word(row) if generator.random() < 1 / 3 else row) | top_k, 1)


MAKERS: dict[Traffic, Callable[[Sequence[Row], random.Random], Body]] = {
    "single": _single,
    "batch": _batch,
    "mixed": _mixed,
}


def _by_word(row: Row) -> Row:
    """The row without the indices of words that occur once: other words would be ambiguous."""
    bare = dict(row)
    for name in ENTITIES:
        entity, sentence = row[name], str(row["sentence"])
        assert isinstance(entity, dict)
        word = entity.get("word")
        if word and sentence.find(word, sentence.find(word) + 1) == -1:
            bare[name] = {key: value for key, value in entity.items() if key not in ("start_idx", "end_idx")}
    return bare


def mean_examples(bodies: Sequence[Body]) -> float:
    """The mean number of examples in a request."""
    return sum(body.examples for body in bodies) / len(bodies)


def judge(body: Body, status: int, content: bytes | None) -> str:
    """The result of a request (see `Outcome`): a 200 must hold a relation for each example. Status 0: no
    answer."""
    if status != 200:
        return str(status) if status else NO_ANSWER
    try:
        answer = json.loads(content or b"")
        predictions = answer["predictions"] if "examples" in body.document else [answer]
        relations = [prediction["relation"] for prediction in predictions]
    except (ValueError, TypeError, KeyError):
        return WRONG_ANSWER
    named = all(isinstance(name, str) and name for name in relations)
    return RIGHT if named and len(relations) == body.examples else WRONG_ANSWER
