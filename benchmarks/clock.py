"""What a server's threads did: on a core, waiting for one, or neither. Linux only.

The kernel counts for each thread the seconds on a core and the seconds in which it was ready and waited for
one (`schedstat` in proc(5)), and for each core what the hypervisor took (`steal`).
"""

import asyncio
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from loadtest.server import ServerProcess

STEAL_S: Final = 0.02
"""Between two looks at what the hypervisor has taken."""
SPEED_S: Final = 0.2
"""Between two looks at the lanes' CPU time. In a longer time the machine's speed moves; in a shorter one the
lanes run too few batches to tell it."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of threads on a core, and ready but waiting for one."""

    cpu_s: float
    wait_s: float

    @property
    def total_s(self) -> float:
        return self.cpu_s + self.wait_s

    def for_each(self, count: int) -> "Spent":
        return Spent(self.cpu_s / count, self.wait_s / count)


@dataclass(frozen=True, slots=True)
class Reading:
    """What happened since the start of a clock.

    Attributes:
        http, lanes, generator: of the server's event loop, of its other threads, of this process.
        others_s: CPU seconds of all other programs.
        batches: that the server ran.
    """

    http: Spent
    lanes: Spent
    generator: Spent
    others_s: float
    batches: int


class Clock:
    """Reads the kernel's counters, and the server's counter of batches; begins when it is made."""

    def __init__(self, server: "ServerProcess") -> None:
        self._server = server
        self._began = self._now()

    def read(self) -> Reading:
        spent, busy_s, batches = self._now()
        spent_then, busy_then_s, batches_then = self._began

        def since(threads: Iterable[tuple[int, int]]) -> Spent:
            pairs = [(spent[thread], spent_then.get(thread, Spent(0, 0))) for thread in threads]
            return Spent(
                sum(now.cpu_s - then.cpu_s for now, then in pairs),
                sum(now.wait_s - then.wait_s for now, then in pairs),
            )

        server, here = self._server.process.pid, os.getpid()
        http = since([(server, server)])
        lanes = since((pid, thread) for pid, thread in spent if pid == server != thread)
        generator = since((pid, thread) for pid, thread in spent if pid == here)
        others_s = busy_s - busy_then_s - http.cpu_s - lanes.cpu_s - generator.cpu_s
        return Reading(http, lanes, generator, others_s, batches - batches_then)

    def _now(self) -> tuple[dict[tuple[int, int], Spent], float, int]:
        """By process and thread; the CPU seconds of all programs; the number of batches."""
        batches = round(self._server.metric("kore_batch_rows_count"))
        busy = sum(sum(core) - core.idle - core.iowait - core.steal - core.guest for core in usable_cores())
        pids = (self._server.process.pid, os.getpid())
        spent = {(pid, thread): own for pid in pids for thread, own in spent_by_thread(pid).items()}
        return spent, busy, batches


def spent_by_thread(pid: int) -> dict[int, Spent]:
    """What each thread of a process has spent since its start."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            cpu_ns, wait_ns, _ = map(int, path.read_text().split())
            found[int(path.parent.name)] = Spent(cpu_ns / 1e9, wait_ns / 1e9)
    return found


def usable_cores() -> list[Any]:
    """The CPU times of the cores that this process can use."""
    import psutil

    times = psutil.cpu_times(percpu=True)
    return [times[core] for core in os.sched_getaffinity(0)]


async def watch_steal(began: float, stolen: list[tuple[float, float]]) -> None:
    """Until cancelled, append the end of each `STEAL_S` and how many cores the hypervisor took in it; `began`
    is on `time.monotonic`'s clock."""
    then, before = began, sum(core.steal for core in usable_cores())
    while True:
        await asyncio.sleep(STEAL_S)
        now, taken = time.monotonic(), sum(core.steal for core in usable_cores())
        stolen.append((now - began, (taken - before) / (now - then)))
        then, before = now, taken


async def watch_lanes(pid: int, began: float, spent: list[tuple[float, float]]) -> None:
    """Until cancelled, append the end of each `SPEED_S` and the CPU seconds of a server's lanes in it."""

    def lanes_s() -> float:
        return sum(own.cpu_s for thread, own in spent_by_thread(pid).items() if thread != pid)

    before = lanes_s()
    while True:
        await asyncio.sleep(SPEED_S)
        now = lanes_s()
        spent.append((time.monotonic() - began, now - before))
        before = now
