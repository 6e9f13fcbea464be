"""Which waiting rows go together: a batch is chosen by what it costs, not by a fixed size."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import add
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.cost import CostModel

CROWD: Final = 6
"""So many waiting rows make work a second count as much as age: whatever a batch wastes, all that wait pay
for. A larger number shortens the longest latencies and costs rows a second (python -m
benchmarks.simulation)."""

DEEP: Final = 64
"""From so many waiting rows on there is nothing more to be gained by choosing among them: age counts for no
less than here."""

TIE: Final = 1e-9

NEAR: Final = 16
"""So many rows to either side of the one whose turn it is a batch may end anywhere, further away at steps of
a fifth: to look at all batches of a GPU's queue would take longer than the batch itself takes."""
STEPS: Final[list[int]] = np.unique(
    np.concatenate((np.arange(NEAR), np.geomspace(NEAR, 100_000, 48).round().astype(int)))
).tolist()


TOKEN_BUDGET: Final = 512
"""Tokens a batch may hold, padding included, where nothing was measured: about 7 rows of KLUE-RE's mean
length."""


class BatchPlanner:
    """Chooses batches by predicted cost.

    A row's `work` is what it costs in the best batch of rows as long as itself. The share of a batch's cost
    that is work is its
    efficiency: padding lowers it, and so do too few rows where starting a run is dear, or too many where
    caches are small. The most efficient batch does the most rows a second, whichever lengths wait; counting
    rows instead would starve the long ones.

    Args:
        cost: what a batch costs a lane.
        token_budget: tokens that a batch may hold, padding included. A single longer row is a batch of its
            own.
        crowd: see `CROWD`.
    """

    def __init__(self, cost: CostModel, token_budget: int, crowd: float = CROWD) -> None:
        self.cost = cost
        self.token_budget = token_budget
        self.crowd = crowd
        self._works: dict[int, float] = {}

    def work(self, length: int) -> float:
        """Seconds of a lane that a row of this length costs at best."""
        work = self._works.get(length)
        if work is None:
            rows = np.arange(1, max(1, self.token_budget // length) + 1)
            work = self._works[length] = float((self.cost.seconds(rows, length) / rows).min())
        return work

    def choose(
        self, lengths: Sequence[int], anchor: int, free_lanes: int = 1, waited: Sequence[float] | None = None
    ) -> range:
        """The batch with the row whose turn it is that does the most work a second, where work counts the
        more the longer it has waited: the generalised cmu rule (Van Mieghem, 1995) for batches. Of equally
        good ones the shortest.

        What a batch does is the mean of its rows' work and of what it takes off the work ahead: what the rows
        around it cost at best with it, less what they cost at best without. The first alone leaves rows
        behind that fit nowhere else; to the second alone a lonely row is as good as a full batch, since
        somebody must run it, though company may come yet.

        Args:
            lengths: tokens of the waiting rows, ascending.
            anchor: index of the row that must be in the batch.
            free_lanes: lanes that wait for work: none of them goes without its share of the rows.
            waited: seconds that each row has waited; by default all the same.
        """
        if len(lengths) == 1:
            return range(1)
        share = math.ceil(len(lengths) / free_lanes)
        starts, stops = self._places_to_cut(lengths, anchor, share)
        longest = np.array([lengths[stop - 1] for stop in stops.tolist()])
        rows = stops - starts[:, None]
        may = (rows == 1) | ((rows > 0) & (rows <= share) & (rows * longest <= self.token_budget))
        seconds = np.where(may, self.cost.seconds(rows, longest), np.inf)
        before, after = _least(seconds.T), _least(seconds[::-1, ::-1])[::-1]

        place = int(np.searchsorted(starts, anchor))
        # of batches with the anchor
        starts, stops, seconds = starts[: place + 1, None], stops[None, place:], seconds[: place + 1, place:]
        off = before[-1] - before[: place + 1, None] - after[None, place + 1 :]
        near = range(starts[0, 0], stops[0, -1])
        works = np.array([self.work(lengths[row]) for row in near])
        age = np.array(waited[near.start : near.stop]) / max(*waited, 1e-9) if waited else 0.0
        crowded = min(len(lengths), DEEP) / self.crowd / 2
        weighed = np.concatenate(([0.0], np.cumsum(works * (crowded + age))))
        worth = weighed[stops - near.start] - weighed[starts - near.start] + crowded * off
        gain = np.where(np.isfinite(seconds), worth / seconds, -np.inf)
        best = int(np.where(gain >= gain.max() - TIE, seconds, np.inf).argmin())
        return range(int(starts[best // gain.shape[1], 0]), int(stops[0, best % gain.shape[1]]))

    def _places_to_cut(
        self, lengths: Sequence[int], anchor: int, share: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where batches around the anchor may start, and where the pieces between these places stop, each of
        which may be a batch: near the anchor they are single rows, further away a batch with the anchor
        reaches over them."""
        lower = bisect_right(STEPS, anchor)
        while (step := STEPS[lower - 1]) >= NEAR and (
            step >= share or (step + 1) * lengths[anchor] > self.token_budget
        ):
            lower -= 1
        upper = bisect_left(STEPS, len(lengths) - anchor)
        while (step := STEPS[upper - 1]) >= NEAR and (
            step >= share or (step + 1) * lengths[anchor + step] > self.token_budget
        ):
            upper -= 1
        places = np.array(
            [anchor - step for step in STEPS[:lower]][::-1] + [anchor + 1 + step for step in STEPS[:upper]]
        )
        return places[:-1], places[1:]

    def cut(self, lengths: Sequence[int]) -> list[range]:
        """All rows as the batches that cost least together, the longest rows first: a shortest path from the
        first row to the last.

        Args:
            lengths: tokens a row, ascending.
        """
        least = np.zeros(len(lengths) + 1)  # seconds for the first so many rows
        starts = np.zeros(len(lengths) + 1, dtype=int)  # where the last batch of that begins
        for stop, longest in enumerate(lengths, start=1):
            first = max(0, stop - max(1, self.token_budget // longest))
            seconds = least[first:stop] + self.cost.seconds(np.arange(stop - first, 0, -1), longest)
            starts[stop] = first + int(seconds.argmin())
            least[stop] = seconds.min()
        batches, stop = [], len(lengths)
        while stop:
            batches.append(range(int(starts[stop]), stop))
            stop = batches[-1].start
        return batches


def cut_sorted(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> list[range]:
    """Length-sorted rows cut into batches from the longest down, each within the budget.

    Args:
        lengths: tokens a row, ascending.
    """
    batches, stop = [], len(lengths)
    while stop:
        start = max(0, stop - max(1, budget // lengths[stop - 1]))
        batches.append(range(start, stop))
        stop = start
    return batches


def _least(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least seconds for the first so many pieces, from none to all, given those of batches from one piece
    (column) to another (row)."""
    least = [0.0]
    for batches in seconds.tolist():
        least.append(min(map(add, least, batches)))
    return np.array(least)
