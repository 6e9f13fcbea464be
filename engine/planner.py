"""Chooses batches by predicted cost: which of the waiting rows should run together?

A row's `work` is its cost in the best batch of rows of its own length. The share of a batch's cost that is
work is its efficiency. Padding lowers it. So do too few rows where starting a run is expensive, and too many
rows where caches are small. The most efficient batch does the most rows per second at any mix of lengths;
counting rows instead would starve the long ones.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from operator import add
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.cost import CostModel

CROWD: Final = 6
"""With this many waiting rows, efficiency and age count the same: what a batch wastes, all waiting rows pay
for. A larger number shortens the longest latencies and costs rows per second (python -m
benchmarks.simulation)."""

DEEP: Final = 64
"""From this many waiting rows on, more rows give no better choice, so age counts for no less than here."""

LEFT_OUT: Final = 0.15
"""The share of a batch's worth that counts the other waiting rows: how much less they cost once it has run.
With a larger share a batch takes long rows along to save them a run of their own, although later rows could
share that run. With a smaller one the longest latencies grow (python -m benchmarks.simulation, make
prove-gpu)."""

TIE: Final = 1e-9

NEAR: Final = 16
"""A batch can end at any row up to this far from the anchor, at steps of a fifth further away, and where the
queue ends. To look at every batch of a GPU's queue would take longer than the batch itself."""

STEPS: Final[list[int]] = np.unique(
    np.concatenate((np.arange(NEAR), np.geomspace(NEAR, 100_000, 48).round().astype(int)))
).tolist()

TOKEN_BUDGET: Final = 512
"""Tokens that a batch can hold, padding included, where nothing was measured: about 7 rows of KLUE-RE."""


class BatchPlanner:
    """Chooses batches by the cost model of one lane.

    Args:
        cost: seconds of a batch.
        token_budget: tokens that a batch can hold, padding included. A single longer row is a batch of its
            own.
        crowd: see `CROWD`.
    """

    def __init__(self, cost: CostModel, token_budget: int, crowd: float = CROWD) -> None:
        self.cost = cost
        self.token_budget = token_budget
        self.crowd = crowd
        self._works: dict[int, float] = {}

    def work(self, length: int) -> float:
        """Seconds of a lane that a row of this length costs in its best batch."""
        work = self._works.get(length)
        if work is None:
            rows = np.arange(1, max(1, self.token_budget // length) + 1)
            work = self._works[length] = float((self.cost.seconds(rows, length) / rows).min())
        return work

    def choose(
        self,
        lengths: Sequence[int],
        anchor: int,
        free_lanes: int = 1,
        waited: Sequence[float] | None = None,
    ) -> range:
        """The batch with the anchor that does the most work per second, where work counts more the longer it
        has waited: the generalised cµ rule (Van Mieghem, 1995) for batches.

        1. List the rows at which a batch with the anchor can start and stop.
        2. Predict the seconds of every such batch. A batch over the token budget, or over a lane's share of
           the rows, costs infinitely much.
        3. Find the least seconds for all rows before each start, and for all rows after each stop.
        4. The worth of a batch is a weighted mean of two things: the work of its rows, and the seconds that
           it takes off the best cut of all rows around (`LEFT_OUT`). The first alone leaves rows that fit
           nowhere else. To the second alone a single row is as good as a full batch, although more rows could
           still arrive for it.
        5. Weigh the work of each row by its age: the oldest row counts one more than a new one, and the fewer
           rows wait, the more that is (`CROWD`, `DEEP`).
        6. Take the batch with the most worth per second; of equally good ones the shortest.

        Args:
            lengths: tokens of the waiting rows, ascending.
            anchor: index of the row that must be in the batch.
            free_lanes: lanes that wait for work: each of them gets its share of the rows.
            waited: seconds that each row has waited; None where age does not count.
        """
        if len(lengths) == 1:
            return range(1)
        share = math.ceil(len(lengths) / free_lanes)
        starts, stops = self._places_to_cut(lengths, anchor, share)
        seconds = self._seconds(lengths, starts, stops, share)
        before, after = _least(seconds.T), _least(seconds[::-1, ::-1])[::-1]

        place = int(np.searchsorted(starts, anchor))
        # From here on only the batches with the anchor: one row per start, one column per stop.
        starts, stops, seconds = starts[: place + 1, None], stops[None, place:], seconds[: place + 1, place:]
        taken_off = before[-1] - before[: place + 1, None] - after[None, place + 1 :]
        first = int(starts[0, 0])
        rows = range(first, int(stops[0, -1]))
        works = np.array([self.work(lengths[row]) for row in rows])
        age = np.array(waited[rows.start : rows.stop]) / max(*waited, 1e-9) if waited else 0.0
        crowded = min(len(lengths), DEEP) / self.crowd
        weighed = np.concatenate(([0.0], np.cumsum(works * ((1 - LEFT_OUT) * crowded + age))))
        worth = weighed[stops - first] - weighed[starts - first] + LEFT_OUT * crowded * taken_off
        gain = np.where(np.isfinite(seconds), worth / seconds, -np.inf)
        best = int(np.where(gain >= gain.max() - TIE, seconds, np.inf).argmin())
        return range(int(starts[best // gain.shape[1], 0]), int(stops[0, best % gain.shape[1]]))

    def cut(self, lengths: Sequence[int]) -> list[range]:
        """All rows as the batches that cost least together, the longest rows first: a shortest path from the
        first row to the last.

        Args:
            lengths: tokens per row, ascending.
        """
        least = np.zeros(len(lengths) + 1)  # seconds for the first n rows
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

    def _places_to_cut(
        self, lengths: Sequence[int], anchor: int, share: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and stops of the pieces between possible cuts: single rows near the anchor, longer pieces
        further away, as far as a batch with the anchor can reach."""

        def reach(rows_there: int, row_at: int) -> list[int]:
            """Distances from the anchor on one side; `row_at` is -1 for shorter rows, 1 for longer ones."""
            distances = STEPS[: bisect_right(STEPS, rows_there)]
            if distances[-1] < rows_there:
                distances.append(rows_there)
            while (step := distances[-1]) >= NEAR:
                longest = lengths[anchor + step] if row_at > 0 else lengths[anchor]
                if step < share and (step + 1) * longest <= self.token_budget:
                    break
                distances.pop()
            return distances

        shorter = [anchor - step for step in reach(anchor, -1)][::-1]
        longer = [anchor + 1 + step for step in reach(len(lengths) - anchor - 1, 1)]
        places = np.array(shorter + longer)
        return places[:-1], places[1:]

    def _seconds(
        self, lengths: Sequence[int], starts: NDArray[np.int64], stops: NDArray[np.int64], share: int
    ) -> NDArray[np.float64]:
        """Predicted seconds of every batch from a start (row) to a stop (column); infinite if forbidden."""
        longest = np.array([lengths[stop - 1] for stop in stops.tolist()])
        rows = stops - starts[:, None]
        fits = (rows == 1) | ((rows > 0) & (rows <= share) & (rows * longest <= self.token_budget))
        return np.where(fits, self.cost.seconds(rows, longest), np.inf)


def cut_sorted(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> list[range]:
    """Rows sorted by length as batches within the budget, the longest rows first.

    Args:
        lengths: tokens per row, ascending.
    """
    batches, stop = [], len(lengths)
    while stop:
        start = max(0, stop - max(1, budget // lengths[stop - 1]))
        batches.append(range(start, stop))
        stop = start
    return batches


def _least(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least seconds for the first n pieces, from none to all, given the seconds of the batches from one
    piece (column) to another (row)."""
    least = [0.0]
    for batches in seconds.tolist():
        least.append(min(map(add, least, batches)))
    return np.array(least)
