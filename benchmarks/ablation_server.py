"""`python -m api` without parts of the engine, for `benchmarks.ablation`. KORE_ABLATION names the part that
is left. The product has no switch for that."""

import os
import sys
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

import engine.waiting
from api.__main__ import main
from engine.planner import TOKEN_BUDGET, BatchPlanner

FIXED: Final = 16

ChooseBatch = Callable[[BatchPlanner, Sequence[int], int, int, Sequence[float]], range]
"""`BatchPlanner.choose`."""


def fixed_size(
    planner: BatchPlanner, lengths: Sequence[int], anchor: int, free_lanes: int, waited: Sequence[float]
) -> range:
    """The next rows in the queue, up to a fixed size."""
    return range(anchor, min(anchor + FIXED, len(lengths)))


def within_budget(
    planner: BatchPlanner, lengths: Sequence[int], anchor: int, free_lanes: int, waited: Sequence[float]
) -> range:
    """The next rows in the queue, up to a number of tokens, padding included."""
    stop = anchor + 1
    while stop < len(lengths) and max(lengths[anchor : stop + 1]) * (stop + 1 - anchor) <= TOKEN_BUDGET:
        stop += 1
    return range(anchor, stop)


def nearest_lengths(
    planner: BatchPlanner, lengths: Sequence[int], anchor: int, free_lanes: int, waited: Sequence[float]
) -> range:
    """The rows nearest in length, up to a fixed size; free lanes share the queue."""
    rows = min(FIXED, ceil(len(lengths) / free_lanes))
    start = max(0, min(anchor - rows // 2, len(lengths) - rows))
    return range(start, start + rows)


IN_ARRIVAL_ORDER: Final[dict[str, ChooseBatch]] = {"fixed_size": fixed_size, "within_budget": within_budget}
SORTED: Final[dict[str, ChooseBatch]] = {"nearest_lengths": nearest_lengths}

left = os.environ.get("KORE_ABLATION", "everything")
if left in IN_ARRIVAL_ORDER:
    engine.waiting._length = lambda item: 0  # the queue then keeps the order of arrival
if left != "everything":
    BatchPlanner.choose = (IN_ARRIVAL_ORDER | SORTED)[left]  # type: ignore[method-assign]
if __name__ == "__main__":
    sys.exit(main())
