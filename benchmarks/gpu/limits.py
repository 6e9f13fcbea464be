"""The limits of the device, measured in the same run as the models."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The fastest that the device multiplies and copies.

    Attributes:
        device: its name.
        tflops: 10¹² operations a second of one large matrix product, two for each multiplication.
        copy_gb_per_s: 10⁹ bytes a second of a copy inside the device's memory, read and written.
    """

    device: str
    tflops: float
    copy_gb_per_s: float


def measure_limits(device: str) -> Limits:
    """A product of 8192 × 8192 matrices in fp16 on a GPU; of 512 × 512 in fp32 on a CPU."""
    on_gpu = device == "cuda"
    side, dtype = (8192, torch.float16) if on_gpu else (512, torch.float32)
    # products of zeros are faster
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    source = torch.randn(2**28 if on_gpu else 2**20, device=device)
    target = torch.empty_like(source)
    product_s = seconds(lambda: torch.mm(left, right), device)
    copy_s = seconds(lambda: target.copy_(source), device)
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    return Limits(name, 2 * side**3 / product_s / 1e12, 2 * source.nbytes / copy_s / 1e9)


def seconds(run: Callable[[], object], device: str) -> float:
    """Mean seconds of a run. On a GPU the runs are queued without waiting for each other."""

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
