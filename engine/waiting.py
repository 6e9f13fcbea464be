"""The rows that wait, the requests that they belong to, and whose turn it is.

Turns are fair between requests, not between examples (fair queueing: Demers, Keshav and Shenker, 1989):

1. The present turn advances by one each time one example of every waiting request has been taken.
2. A request arrives with the present turn. Each of its examples that a lane takes adds one to its turn.
3. A free lane serves the request with the lowest turn, and of equal turns the one that arrived first.

So a single example that arrives after a request of 256 examples waits for one turn, not for 256. The request
of 256 still finishes while single examples keep arriving.

This file knows no threads and no clock. `engine/queue.py` holds the lock while it calls these methods.
"""

import asyncio
import itertools
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.encoding import EncodedExample
from models.example import Prediction


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's predictions, in the order asked, and where its time went, in seconds."""

    predictions: list[Prediction]
    queue_s: float
    inference_s: float


@dataclass(slots=True, eq=False)
class Request:
    """A request in the queue or in a lane. Times are those of `time.monotonic`.

    Attributes:
        future: resolves once every prediction is there; its event loop is the caller's.
        predictions: one place per example, in the order asked.
        missing: how many predictions are not there yet.
        waiting: how many examples wait for a lane.
        work: predicted seconds of a lane for the examples that wait.
        started: when a lane took the first example.
    """

    submitted: float
    deadline: float
    future: asyncio.Future[Answered]
    predictions: list[Prediction | None]
    missing: int
    turn: float = 0.0
    arrival: int = 0
    waiting: int = 0
    work: float = 0.0
    started: float | None = None


@dataclass(slots=True, eq=False)
class Item:
    """One example of a request. `work` is its predicted cost in seconds of a lane."""

    row: EncodedExample
    request: Request
    index: int
    work: float
    length: int = field(init=False)

    def __post_init__(self) -> None:
        self.length = len(self.row)


class WaitingRows:
    """The queue's contents.

    Attributes:
        items: every waiting example, sorted by length, so that a batch is a slice.
        requests: the requests with examples in `items`.
        turn: the present turn.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.requests: set[Request] = set()
        self.turn = 0.0
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self.items)

    def add(self, request: Request, rows: Sequence[EncodedExample], works: Sequence[float]) -> None:
        """Put a request's examples into the queue; `works` are their predicted seconds of a lane."""
        request.turn, request.arrival = self.turn, next(self._arrivals)
        request.waiting, request.work = len(rows), sum(works)
        self.requests.add(request)
        for index, (row, work) in enumerate(zip(rows, works, strict=True)):
            insort(self.items, Item(row, request, index, work), key=_length)

    def remove(self, requests: set[Request]) -> None:
        """Drop the examples of some requests that have not started."""
        self.requests -= requests
        self.items = [item for item in self.items if item.request not in requests]

    def remove_expired(self, now: float) -> None:
        """Drop the examples of requests whose deadline has passed."""
        if expired := {request for request in self.requests if request.deadline <= now}:
            self.remove(expired)

    def clear(self) -> list[Item]:
        """Drop everything; returns what was dropped."""
        dropped, self.items = self.items, []
        self.requests.clear()
        return dropped

    def next_request(self) -> Request:
        """The request whose turn it is."""
        return min(self.requests, key=_turn)

    def place_of(self, request: Request) -> int:
        """Where the request's first waiting example is in `items`."""
        return min((item.index, place) for place, item in enumerate(self.items) if item.request is request)[1]

    def take(self, cut: range, served: float, now: float) -> list[Item]:
        """Move a slice of `items` into a lane, and advance the turns; `served` is the turn that it serves."""
        batch = self.items[cut.start : cut.stop]
        del self.items[cut.start : cut.stop]
        self.turn = max(self.turn + len(batch) / len(self.requests), served)
        for item in batch:
            request = item.request
            if request.started is None:
                request.started = now
            request.turn += 1
            request.waiting -= 1
            request.work -= item.work
            if not request.waiting:
                self.requests.discard(request)
        return batch

    def work_ahead(self, rows: int) -> float:
        """Predicted seconds of a lane that are served before a request of `rows` examples that arrives now is
        complete: of each waiting request the share that has its turn by then."""
        last_turn = self.turn + rows
        works = [  # one expression: it runs at every admission, over every waiting request
            other.work
            if (turns := last_turn - other.turn) >= other.waiting
            else other.work * max(0.0, turns) / other.waiting
            for other in self.requests
        ]
        return sum(works)


def _turn(request: Request) -> tuple[float, int]:
    return request.turn, request.arrival


def _length(item: Item) -> int:
    return item.length
