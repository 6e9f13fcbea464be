"""Which waiting rows go together: a batch is chosen by what it costs, not by a fixed size."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np

from models.cost import CostModel

CROWD: Final = 12
"""So many waiting rows make work a second count as much as age: whatever a batch wastes, all that wait pay for. A larger number shortens
the longest latencies and costs rows a second (python -m benchmarks.simulation)."""

TIE: Final = 1e-9

ENDS: Final = np.unique(np.concatenate((np.arange(64), np.geomspace(64, 100_000, 80).round().astype(int))))
"""How far from the row whose turn it is a batch may end: anywhere near it, then at steps of a tenth. All ends of all batches of a GPU would
take longer to look through than the batch itself takes."""
STEPS: Final[list[int]] = ENDS.tolist()


class BatchPlanner:
    """Chooses batches by predicted cost.

    A row's `work` is what it costs in the best batch of rows as long as itself. The share of a batch's cost that is work is its
    efficiency: padding lowers it, and so do too few rows where starting a run is dear, or too many where caches are small. The most
    efficient batch does the most rows a second, whichever lengths wait; counting rows instead would starve the long ones.

    Args:
        cost: what a batch costs a lane.
        token_budget: tokens that a batch may hold, padding included. A single longer row is a batch of its own.
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

    def choose(self, lengths: Sequence[int], anchor: int, free_lanes: int = 1, waited: Sequence[float] | None = None) -> range:
        """The batch with the row whose turn it is that does the most work a second, where work counts the more the longer it has waited:
        the generalised cmu rule (Van Mieghem, 1995) for batches. Of equally good ones the shortest.

        Args:
            lengths: tokens of the waiting rows, ascending.
            anchor: index of the row that must be in the batch.
            free_lanes: lanes that wait for work: none of them goes without its share of the rows.
            waited: seconds that each row has waited; by default all the same.
        """
        if len(lengths) == 1:
            return range(1)
        most = max(1, self.token_budget // lengths[anchor])  # rows that fit into a batch with the anchor
        first = max(0, anchor - most + 1)
        near = np.array(lengths[first : anchor + most])
        place = anchor - first
        age = np.array(waited[first : anchor + most]) / max(*waited, 1e-9) if waited else 0.0
        works = np.array([self.work(length) for length in near.tolist()])
        worth = np.concatenate(([0.0], np.cumsum(works * (len(lengths) / self.crowd + age))))
        lows = (place - ENDS[: bisect_right(STEPS, place)])[:, None]
        highs = (place + ENDS[: bisect_left(STEPS, len(near) - place)])[None, :]
        rows, longest = highs - lows + 1, near[highs]
        share = math.ceil(len(lengths) / free_lanes)
        allowed = (rows == 1) | ((rows * longest <= self.token_budget) & (rows <= share))
        seconds = self.cost.seconds(rows, longest)
        gain = np.where(allowed, (worth[highs + 1] - worth[lows]) / seconds, 0.0)
        low, high = divmod(int(np.where(gain >= (1 - TIE) * gain.max(), seconds, np.inf).argmin()), gain.shape[1])
        return range(first + place - STEPS[low], first + place + STEPS[high] + 1)

    def cut(self, lengths: Sequence[int]) -> list[range]:
        """All rows as the batches that cost least together, the longest rows first: a shortest path from the first row to the last.

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
