"""Chooses the device that runs a bundle.

NVIDIA's driver tells whether there is a GPU. ONNX Runtime lists its CUDA provider even without one.
"""

import ctypes
from functools import cache
from typing import Literal

import onnxruntime

from models.bundle import Bundle
from models.classifier import CUDA
from models.ensemble import DeviceUnavailable, try_member
from models.precision import Device


@cache
def gpus() -> tuple[str, ...]:
    """The names of the GPUs that `CUDA_VISIBLE_DEVICES` allows, in CUDA's order; none without a driver."""
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


def choose_device(bundle: Bundle, asked: Device | Literal["auto"]) -> tuple[Device, str]:
    """The device to run a bundle on, and the reason. `auto` is a GPU if bundle and machine support one."""
    if asked != "auto":
        return asked, "it was chosen by setting"
    if "cuda" not in bundle.devices():
        return "cpu", f"bundle {bundle.manifest.name} has no graphs for a GPU"
    if lacking := lacking_for_cuda():
        return "cpu", lacking
    try:
        try_member(bundle, "cuda")
    except DeviceUnavailable as error:
        return "cpu", str(error)
    return "cuda", f"the bundle has graphs for a GPU and the machine has one: {gpus()[0]}"


def lacking_for_cuda() -> str | None:
    """What CUDA lacks on this machine; None if it can be used.

    Call it before making a session. Without CUDA the library would log a page of errors, or use the CPU.
    """
    if not gpus():
        return "this machine has no GPU that NVIDIA's driver lists"
    if CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is for CPUs: install the extra `cuda` instead of `cpu`"
    return None
