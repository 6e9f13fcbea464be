"""A request's body into encoded examples: parse, check, tokenise; all or nothing."""

import asyncio
import difflib
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json

from api.errors import Fault, InvalidRequest, TooLarge, fault
from api.schemas import OneExample, OneSentence, RequestOptions, SeveralExamples
from engine.errors import DeadlineExceeded
from models.encoding import EncodedExample
from models.example import Example, InvalidExample, Prediction, Problem
from models.pairs import Pairs, example_or_pairs

log = logging.getLogger("kore")

SHORT_BODY_BYTES: Final = 4 * 1024
"""A body up to this size holds a few examples and is read on the event loop in 0.1 ms. Handing it to a thread
and back takes longer, and wakes a thread on a core that a lane uses (docs/log.md)."""

SMALL_BODY_BYTES: Final = 64 * 1024
"""Larger bodies share one thread, so that small requests never wait for them."""

KNOWN_KEYS: Final = frozenset(
    {*OneExample.model_fields, *OneSentence.model_fields, *SeveralExamples.model_fields}
)

Encode = Callable[[Example | Pairs], list[EncodedExample]]


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be answered: what it asks, its encoded examples, and the form of the answer."""

    asked: list[Example | Pairs]
    rows: list[EncodedExample]
    options: RequestOptions
    single: bool

    def answer(self, predictions: list[Prediction]) -> dict[str, Any]:
        """The body of the answer, as `PredictionOut`, `RelationsOut` or `PredictionsOut` describes it."""
        top_k, left = self.options.top_k, iter(predictions)
        documents = [
            one.document(islice(left, len(one.places)), top_k, self.options.min_score)
            if isinstance(one, Pairs)
            else next(left).document(top_k)
            for one in self.asked
        ]
        return documents[0] if self.single else {"predictions": documents}


class BodyReader:
    """Reads bodies: short ones on the event loop, the others in threads.

    Args:
        max_examples: the most examples that a request can hold.
        threads: for small bodies.
    """

    def __init__(self, max_examples: int, threads: int) -> None:
        self._max_examples = max_examples
        self._small = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="encode-large")

    async def read(self, body: bytes, encode: Encode, deadline: float) -> Question:
        """Parse, check and encode a body.

        Args:
            deadline: on `time.monotonic`'s clock.

        Raises:
            DeadlineExceeded: the deadline passed.
            InvalidRequest, TooLarge: as `read_question`.
        """
        if len(body) <= SHORT_BODY_BYTES and b'"entities"' not in body:  # these can be 240 pairs
            return read_question(body, self._max_examples, encode)
        threads = self._small if len(body) <= SMALL_BODY_BYTES else self._large
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await loop.run_in_executor(threads, read_question, body, self._max_examples, encode)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the request's body was read") from None

    def close(self) -> None:
        for threads in (self._small, self._large):
            threads.shutdown(cancel_futures=True)


def read_question(body: bytes, max_examples: int, encode: Encode) -> Question:
    """Parse, check and encode a request's body.

    Raises:
        InvalidRequest: the body is not JSON, or some example cannot be asked; every fault is listed.
        TooLarge: the body holds more examples than `max_examples`.
    """
    document = _parse(body)
    warn_of_near_misses(document)
    single = "examples" not in document
    if not single and not document.keys().isdisjoint(("sentence", "entities")):
        message = "send either one example or 'examples', not both"
        raise InvalidRequest([fault("ambiguous", ["body"], message)])
    candidates = [document] if single else document["examples"]
    if not isinstance(candidates, list) or not candidates:
        message = "a list of at least one example is required"
        raise InvalidRequest([fault("list_type", ["body", "examples"], message)])
    _require_at_most(max_examples, len(candidates))
    options, faults = _read_options(document)
    of_options = list(faults)
    read = [_read(candidate) for candidate in candidates]
    asked = [one for one in read if isinstance(one, Example | Pairs)]
    pairs = sum(len(one.places) for one in asked if isinstance(one, Pairs))
    _require_at_most(max_examples, pairs + sum(isinstance(one, Example) for one in asked), pairs)
    rows: list[EncodedExample] = []
    for index, one in enumerate(read):
        place: list[str | int] = ["body"] if single else ["body", "examples", index]
        encoded, problems = _encode(one, encode)
        rows += encoded
        found = [fault(each.kind, [*place, *each.loc], each.message) for each in problems]
        faults += [each for each in found if each not in of_options]  # `min_score` is checked twice
    if faults:
        raise InvalidRequest(faults)
    return Question(asked, rows, options, single)


def _read_options(document: dict[str, Any]) -> tuple[RequestOptions, list[Fault]]:
    try:
        return RequestOptions.model_validate(document), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        return RequestOptions(), [fault(each["type"], ["body", *each["loc"]], each["msg"]) for each in found]


def _require_at_most(limit: int, examples: int, pairs: int = 0) -> None:
    if examples > limit:
        of_which = f", {pairs} of them pairs of entities" if pairs else ""
        raise TooLarge(f"a request can hold {limit} examples; this one holds {examples}{of_which}")


Problems = tuple[Problem, ...]
"""What is wrong with an example. The exception itself would keep its caller's frame, and so the body, until
the collector looks for cycles."""


def _read(candidate: Any) -> Example | Pairs | Problems:
    try:
        return example_or_pairs(candidate)
    except InvalidExample as error:
        return error.problems


def _encode(one: Example | Pairs | Problems, encode: Encode) -> tuple[list[EncodedExample], Problems]:
    if isinstance(one, tuple):
        return [], one
    try:
        return encode(one), ()
    except InvalidExample as error:
        return [], error.problems


def warn_of_near_misses(document: Iterable[str]) -> None:
    """Log each unknown key that looks like a known one: `topk` would be ignored without a word."""
    for key in document:
        if key not in KNOWN_KEYS and (meant := _near_miss(key[:40])):
            log.warning(
                "a request has the unknown key %r, which is ignored; did it mean %s?", key[:40], meant
            )


@lru_cache(maxsize=256)
def _near_miss(key: str) -> str | None:
    plain = {known.replace("_", ""): known for known in KNOWN_KEYS}
    found = difflib.get_close_matches(key.lower().replace("_", "").replace("-", ""), plain, n=1, cutoff=0.85)
    return plain[found[0]] if found else None


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest([fault("json_invalid", ["body"], f"not JSON: {error}")]) from None
    if not isinstance(document, dict):
        raise InvalidRequest([fault("model_type", ["body"], "a JSON object is required")])
    return document
