"""How a process that serves divides its memory (`models/memory.py`)."""

import platform
import subprocess
import sys

import pytest

COUNT_HEAPS = """
import ctypes, sys, threading
from models.memory import few_heaps

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
if sys.argv[1] != "default":
    few_heaps(int(sys.argv[1]))
together = threading.Barrier(6)

def allocate():
    together.wait()
    libc.malloc(100_000)

threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stream = libc.fdopen(1, b"w")
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library divides memory in another way"
)
@pytest.mark.parametrize(("cores", "heaps"), [("1", 3), ("2", 5)])
def test_there_are_two_heaps_for_each_core_and_the_first_one(cores: str, heaps: int) -> None:
    assert heaps_of_six_threads("default") > 4, "glibc gives each thread its own"
    assert heaps_of_six_threads(cores) == heaps


def heaps_of_six_threads(cores: str) -> int:
    told = subprocess.run(
        [sys.executable, "-c", COUNT_HEAPS, cores], capture_output=True, text=True, timeout=60, check=True
    )
    return told.stdout.count("<heap nr=")
