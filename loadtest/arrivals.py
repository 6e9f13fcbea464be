"""An open loop: requests are due at times of their own, whatever the answers do, and their latency counts
from then.

A caller that waits for its answer before it asks again slows down together with the server, and so hides the
very wait that it should measure. Here a request that could not be sent in time (the sender was busy) counts
from the time at which it was due, like one that waited in the server's queue.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

RIGHT = "200"
"""The outcome of a request that was answered rightly."""
REFUSED = "429"
"""Of one that was told to come back later."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stretch of a run: its seconds, and the examples a second that arrive in it on average."""

    name: str
    seconds: float
    rate: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of an open loop and what came of it. All times are seconds on one monotonic clock.

    `outcome` is `RIGHT`, another status, "wrong answer" (200, but not what was asked for) or "no answer".
    """

    stage: str
    examples: int
    outcome: str
    due_s: float
    sent_s: float
    answered_s: float

    @property
    def seconds(self) -> float:
        """The latency: seconds between the time at which the request was due and its answer."""
        return self.answered_s - self.due_s

    @property
    def late_s(self) -> float:
        """Seconds by which the request was sent after it was due; they are part of the latency."""
        return self.sent_s - self.due_s


def due_times(rate: float, began_s: float, generator: random.Random) -> Iterator[float]:
    """The times, in seconds, of a Poisson process of `rate` arrivals a second that begins at `began_s`.
    Endless, and waits for nobody."""
    due_s = began_s
    while True:
        due_s += generator.expovariate(rate)
        yield due_s
