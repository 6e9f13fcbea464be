"""Which device runs a bundle. NVIDIA's driver is asked for GPUs: ONNX Runtime lists its CUDA provider also
where there is none."""

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
    """The names of the GPUs that this process may use, in CUDA's order (`CUDA_VISIBLE_DEVICES` counts); none
    where there is no driver."""
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
    """The device to run a bundle on, and why it was taken where that was left to us: a GPU if bundle and
    machine have one."""
    if asked != "auto":
        return asked, "it was asked for"
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
    """What CUDA lacks here. Asked before a session is made: the library would log a page of errors, or go on
    without a GPU."""
    if not gpus():
        return "this machine has no GPU that NVIDIA's driver knows"
    if CUDA not in onnxruntime.get_available_providers():
        return "this is ONNX Runtime for CPUs: install the extra `cuda` in place of `cpu`"
    return None
