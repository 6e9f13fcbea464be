"""Whether to train in bfloat16, where a recipe leaves that to the machine. A run decides it once:
training/run/experiment.py."""

import time
from functools import cache
from typing import Final

import torch

BF16_SHARE: Final = 0.7
"""Of the seconds that float32 takes: casting costs something too."""


@cache
def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 matrices clearly faster than float32 ones. On a CPU it is
    timed: one with AVX512_BF16 but without AMX took twice as long for them (docs/log.md)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)

    def seconds(dtype: torch.dtype, rows: int) -> float:
        left, right = torch.ones(rows, 512, dtype=dtype), torch.ones(512, 2048, dtype=dtype)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - began)
        return min(times)

    if seconds(torch.bfloat16, 16) > 3 * seconds(torch.float32, 16):
        # without instructions for it (AVX2 alone) it takes a hundred times as long, and timing all of it a
        # minute
        return False
    return seconds(torch.bfloat16, 2048) < BF16_SHARE * seconds(torch.float32, 2048)
