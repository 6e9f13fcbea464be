"""Requests of a load test, when they are due, and their outcomes.

A caller that waits for its answer before it sends again slows down together with the server, and so hides the
wait that it should measure. An open loop sends each request when it is due, and latency counts from then,
even if the sender was too busy to send it in time.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

RIGHT = "200"
"""The result of a request that got the answer it asked for."""
REFUSED = "429"
"""The result of a request that was told to come back later."""
WRONG_ANSWER = "wrong answer"
NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stretch of a run: its seconds, and the mean number of examples that arrive in a second."""

    name: str
    seconds: float
    rate: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request and its result. All times are seconds on one monotonic clock.

    Attributes:
        result: `RIGHT`, another status, `WRONG_ANSWER` (200 with other content) or `NO_ANSWER`.
        row: index of the row that was asked.
        relation: the first relation in the answer.
        retry_after: the answer's `Retry-After`, in seconds.
    """

    result: str
    due_s: float
    sent_s: float
    answered_s: float
    stage: str = ""
    examples: int = 1
    row: int = 0
    relation: str | None = None
    retry_after: str | None = None

    @property
    def seconds(self) -> float:
        """The latency: seconds from the time at which the request was due to its answer."""
        return self.answered_s - self.due_s

    @property
    def late_s(self) -> float:
        """Seconds from the time at which the request was due to its sending; they are part of the latency."""
        return self.sent_s - self.due_s


def by_result(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """The number of requests with each result."""
    return dict(sorted(Counter(outcome.result for outcome in outcomes).items()))


def due_times(rate: float, began_s: float, generator: random.Random) -> Iterator[float]:
    """The times, in seconds, of a Poisson process of `rate` arrivals a second that begins at `began_s`;
    endless."""
    due_s = began_s
    while True:
        due_s += generator.expovariate(rate)
        yield due_s
