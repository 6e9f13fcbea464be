"""The ways to split a machine into lanes. A lane runs one batch at a time."""

from dataclasses import dataclass
from typing import Final

from engine.devices import gpus
from models.precision import Device

MOST_COPIES: Final = 4
"""Lanes of several threads hold a copy of the members each: splits into more of them are not tried."""


@dataclass(frozen=True, slots=True)
class Split:
    """Cores cut into equal lanes: how many batches run at a time, and on how many threads each."""

    lanes: int
    threads: int

    @property
    def copies(self) -> int:
        """Sets of sessions that the lanes need: lanes of one thread share one, since the thread is the
        caller's own."""
        return self.lanes if self.threads > 1 else 1


def possible_splits(
    device: Device, cores: int, lanes: int | None = None, threads: int | None = None
) -> list[Split]:
    """The ways to cut a machine into lanes that are worth a measurement; one way only where lanes or threads
    are given.

    On a CPU: one lane a core, all cores in one lane, and what lies between by powers of two. On GPUs: one
    lane each, or a second one that prepares its batch while the first one's runs.
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
