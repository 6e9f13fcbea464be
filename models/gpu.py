"""The GPUs of this machine, asked of NVIDIA's driver: ONNX Runtime lists its CUDA provider also where there is none."""

import ctypes
from functools import cache


@cache
def gpus() -> tuple[str, ...]:
    """The names of the GPUs that this process may use, in CUDA's order (`CUDA_VISIBLE_DEVICES` counts); none where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_name(driver, number) for number in range(count.value))


def _name(driver: ctypes.CDLL, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode(errors="replace")
