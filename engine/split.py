"""The ways to split a machine into lanes. A lane runs one batch at a time."""

from dataclasses import dataclass
from typing import Final

from engine.devices import gpus
from models.precision import Device

MOST_COPIES: Final = 4
"""Each lane of several threads has its own copy of the members. Splits with more such lanes are not tried."""


@dataclass(frozen=True, slots=True)
class Split:
    """Equal lanes: how many there are, and how many threads each has."""

    lanes: int
    threads: int

    @property
    def copies(self) -> int:
        """How many copies of the members the lanes need.

        Lanes of one thread share a copy: a run then uses its caller's thread only.
        """
        return self.lanes if self.threads > 1 else 1


def possible_splits(
    device: Device, cores: int, lanes: int | None = None, threads: int | None = None
) -> list[Split]:
    """The splits of a machine that are worth a measurement; only one if lanes or threads are given.

    On a CPU: one lane for each core, one lane of all cores, and powers of two between them. On a GPU: one
    lane, or two, of which one prepares its batch while the other's batch runs.
    """
    if lanes or threads:
        on_cpu = Split(lanes or max(1, cores // (threads or 1)), threads or max(1, cores // (lanes or 1)))
        return [on_cpu if device == "cpu" else Split(lanes or len(gpus()) or 1, threads or 1)]
    if device != "cpu":
        each = len(gpus()) or 1
        return [Split(each, 1), Split(2 * each, 1)]
    between = [
        Split(cores // threads, threads)
        for exponent in range(1, cores.bit_length())
        if (threads := 2**exponent) < cores
    ]
    return list(
        dict.fromkeys(
            [Split(cores, 1), *(split for split in between if split.lanes <= MOST_COPIES), Split(1, cores)]
        )
    )
