"""Memory of a process that serves: how threads share it, and how a retired bundle gives it back."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
LARGE_BYTES: Final = 2**20
LARGEST_BYTES: Final = 2**25
"""The highest threshold that glibc takes. With a lower one, each batch would map its activations anew."""


def few_heaps(cores: int) -> None:
    """Limit the heaps of this process to two for each core and the first one; called before threads start.

    By default, glibc gives up to eight threads for each core a heap of their own, and each heap keeps room
    for its largest batch. But lanes that share a heap wait for each other (docs/log.md).
    """
    _mallopt(_ARENA_MAX, 1 + 2 * cores)


def collect_seldom() -> None:
    """Look for cycles once there are 10,000 more objects, not 700: the collector looked at the objects of
    waiting requests again and again, for a twentieth of a front's time (docs/log.md)."""
    gc.set_threshold(10_000, *gc.get_threshold()[1:])


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """While a bundle is read and proved, what is large gets memory of its own, which goes back to the system
    when it is freed. In the heaps it would lie between smaller blocks, and leave holes."""
    _mallopt(_TRIM_THRESHOLD, 2 * LARGEST_BYTES)
    _mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
    try:
        yield
    finally:
        _mallopt(_MMAP_THRESHOLD, LARGEST_BYTES)


def give_back() -> None:
    """Free what is retired, and return its memory to the system.

    1. A pool, its queue and its lanes refer to each other. Only the collector frees them, and by itself it
       seldom looks at old objects.
    2. glibc keeps freed memory for each thread that ended, and a new bundle's lanes are new threads.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(option, value)
