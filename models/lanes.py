"""How many cores there are, and the ways to split them into lanes. A lane runs one batch at a time."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.bundle import Device
from models.gpu import gpus

TOKEN_BUDGET: Final = 512
"""Tokens a batch may hold, padding included, where nothing was measured: about 7 rows of KLUE-RE's mean length."""

MOST_COPIES: Final = 4
"""Lanes of several threads hold a copy of the members each: splits into more of them are not tried."""


@dataclass(frozen=True, slots=True)
class Split:
    """Cores cut into equal lanes: how many batches run at a time, and on how many threads each."""

    lanes: int
    threads: int

    @property
    def copies(self) -> int:
        """Sets of sessions that the lanes need: lanes of one thread share one, since the thread is the caller's own."""
        return self.lanes if self.threads > 1 else 1


def possible_splits(device: Device, cores: int, lanes: int | None = None, threads: int | None = None) -> list[Split]:
    """The ways to cut a machine into lanes that are worth a measurement; one way only where lanes or threads are given.

    On a CPU: one lane a core, all cores in one lane, and what lies between by powers of two. On GPUs: one lane each, or a second one that
    prepares its batch while the first one's runs.
    """
    if lanes or threads:
        on_cpu = Split(lanes or max(1, cores // (threads or 1)), threads or max(1, cores // (lanes or 1)))
        return [on_cpu if device == "cpu" else Split(lanes or len(gpus()) or 1, threads or 1)]
    if device != "cpu":
        each = len(gpus()) or 1
        return [Split(each, 1), Split(2 * each, 1)]
    between = [Split(cores // threads, threads) for exponent in range(1, cores.bit_length()) if (threads := 2**exponent) < cores]
    return list(dict.fromkeys([Split(cores, 1), *(split for split in between if split.lanes <= MOST_COPIES), Split(1, cores)]))


def available_cores(most: int | None = None) -> int:
    """The cores that this process may use: its affinity, capped by the cgroup's quota (v2 or v1), and by `most` where it is given."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(_cgroup_quota() or cores), most or cores))


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
