"""Whether to train in bfloat16, for recipes that leave it to the machine, and with which attention."""

import time
from functools import cache
from typing import Final, TypeVar

from training.errors import InvalidRecipe
from training.run.recipe import RunRecipe

AnyRecipe = TypeVar("AnyRecipe", bound=RunRecipe)

BF16_SHARE: Final = 0.7
"""bfloat16 has to take less than this share of float32's time, because casting costs time too."""


def attention(bf16: bool | None) -> str | None:
    """Transformers' name of the attention implementation to train with; None: transformers chooses.

    On a CPU, the backward pass of PyTorch's fused attention takes seven times as long in bfloat16 as in
    float32, which is half of a training step. `eager` is fast in both (docs/training.md).
    """
    import torch

    return "eager" if bf16 and not torch.accelerator.is_available() else None


def decide(recipe: AnyRecipe) -> AnyRecipe:
    """The recipe with `bf16` decided, by measurement if it leaves that to the machine.

    Raises:
        InvalidRecipe: it wants float16, and there is no GPU.
    """
    import torch

    if recipe.fp16 and not torch.cuda.is_available():
        raise InvalidRecipe("fp16: float16 needs an NVIDIA GPU; leave it out, and `bf16` decides")
    if recipe.bf16 is not None:
        return recipe
    return recipe.model_copy(update={"bf16": not recipe.fp16 and bf16_pays()})


@cache
def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 matrices clearly faster than float32 ones.

    A CPU is measured: one with AVX512_BF16 but without AMX took twice as long in bfloat16 (docs/log.md).
    """
    import torch

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

    # Without bfloat16 instructions a CPU takes a hundred times as long, and the full measurement a minute.
    if seconds(torch.bfloat16, 16) > 3 * seconds(torch.float32, 16):
        return False
    return seconds(torch.bfloat16, 2048) < BF16_SHARE * seconds(torch.float32, 2048)
