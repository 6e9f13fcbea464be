"""What the device can do at best, measured in the same run as what is held against it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Attributes:
        device: its name.
        tflops: 10¹² operations a second of one large matrix product, two for each multiplication.
        copy_gb_per_s: 10⁹ bytes a second of a copy inside the device's memory, read and written.
    """

    device: str
    tflops: float
    copy_gb_per_s: float


def measure_limits(device: str) -> Limits:
    """fp16 and 8192 × 8192 × 8192 on a GPU; on a CPU fp32 and a sixteenth of the side, for trying the
    benchmark out."""
    on_gpu = device == "cuda"
    side, dtype = (8192, torch.float16) if on_gpu else (512, torch.float32)
    # zeros would run faster than real numbers
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    source = torch.randn(2**28 if on_gpu else 2**20, device=device)
    target = torch.empty_like(source)
    product_s = seconds(lambda: torch.mm(left, right), device)
    copy_s = seconds(lambda: target.copy_(source), device)
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    return Limits(name, 2 * side**3 / product_s / 1e12, 2 * source.nbytes / copy_s / 1e9)


def seconds(run: Callable[[], object], device: str) -> float:
    """Of one run, as the mean over many: on a GPU they are queued without waiting for each other."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        run()
    wait()
    began = time.perf_counter()
    for _ in range(ROUNDS):
        run()
    wait()
    return (time.perf_counter() - began) / ROUNDS
