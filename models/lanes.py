"""How the cores are split, and which rows go together: used online and offline.

A lane runs one batch at a time on its own core. On a CPU one thread a lane and short batches of rows of like length are the fastest
split measured (docs/log.md): a batch in arrival order pads 20-token rows to 200 and runs at half the speed of no batch at all.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOKEN_BUDGET: Final = 512
"""Tokens a batch may hold, padding included: about 7 rows of KLUE-RE's mean length."""


@dataclass(frozen=True, slots=True)
class Split:
    """Cores cut into equal lanes: how many batches run at a time, and on how many threads each."""

    lanes: int
    threads: int


def available_cores() -> int:
    """The cores that this process may use: its affinity, capped by the cgroup's quota (v2 or v1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def grow_batch(lengths: Sequence[int], anchor: int, budget: int = TOKEN_BUDGET) -> range:
    """The run of length-sorted rows around one row that fits the budget with the least padding.

    Args:
        lengths: tokens a row, ascending.
        anchor: index of the row that must be in the batch.
        budget: tokens the batch may hold, padding included. A single longer row is a batch of its own.
    """
    low = high = anchor
    while True:
        longer = lengths[high + 1] if high + 1 < len(lengths) else None
        shorter = lengths[low - 1] if low > 0 else None
        rows = high - low + 2
        fits_longer = longer is not None and longer * rows <= budget
        fits_shorter = shorter is not None and lengths[high] * rows <= budget
        if fits_longer and (not fits_shorter or longer - lengths[high] <= lengths[high] - shorter):  # type: ignore[operator]
            high += 1
        elif fits_shorter:
            low -= 1
        else:
            return range(low, high + 1)


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


def _cgroup_quota() -> float | None:
    """The tightest quota in cores on the way from this process's cgroup to the root, or `None` where there is no limit."""
    quotas = [quota for folder in _cgroup_folders() if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    try:
        own = next(line[3:].strip() for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        own = "/"
    group = Path(own.strip("/"))
    return [root / part for part in (group, *group.parents)] + [root / "cpu"]


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))  # version 1
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
