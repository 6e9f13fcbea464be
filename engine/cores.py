"""How many cores this process can use."""

import math
import os
from pathlib import Path


def available_cores(most: int | None = None) -> int:
    """The cores in this process's affinity, at most its cgroup's quota (v2 or v1), at most `most`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(_cgroup_quota() or cores), most or cores))


def _cgroup_quota() -> float | None:
    """The smallest quota, in cores, of this process's cgroup and those above it; None without a limit."""
    quotas = [quota for folder in _cgroup_folders() if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    try:
        own = next(
            line[3:].strip()
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
    except (OSError, StopIteration):
        own = "/"
    group = Path(own.strip("/"))
    return [root / part for part in (group, *group.parents)] + [root / "cpu"]


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )  # version 1
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
