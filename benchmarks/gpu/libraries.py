"""The libraries that ONNX Runtime's provider for CUDA links to, and stubs to load it without a GPU."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STUB: Final = Path(__file__).with_name("stub")
DRIVER: Final = "libcuda.so.1"
PROVIDER: Final = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
LOAD: Final = """
import ctypes, pathlib, onnxruntime
onnxruntime.preload_dlls()
folder = pathlib.Path(onnxruntime.__file__).parent / "capi"
ctypes.CDLL(folder / "libonnxruntime_providers_shared.so", ctypes.RTLD_GLOBAL)
ctypes.CDLL(folder / "libonnxruntime_providers_cuda.so")
"""
"""Loads the provider as a session does. Every function that it links to must be found at once."""


class ToolMissing(Exception):
    """A program that the check runs is not installed."""


@dataclass(frozen=True, slots=True)
class Libraries:
    """Names of shared libraries, by where they were found: in the wheels, in the system, or nowhere."""

    in_wheels: tuple[str, ...]
    in_system: tuple[str, ...]
    missing: tuple[str, ...]


def site_packages(python: Path) -> Path:
    """The folder of the packages of an interpreter's environment."""
    (found,) = python.parents[1].glob("lib/python3*/site-packages")
    return found


def find_libraries(python: Path) -> Libraries:
    """What the provider links to, and what that links to, and the same of cuDNN, which ONNX Runtime opens
    only when a kernel needs it."""
    packages = site_packages(python)
    wheels = {path.name: path for path in packages.glob("nvidia/*/lib/*.so*")}
    left = [packages / PROVIDER, *(path for name, path in wheels.items() if name.startswith("libcudnn"))]
    names: set[str] = set()
    while left:
        new = {name for path in left for name in needed(path)} - names
        names |= new
        left = [wheels[name] for name in new if name in wheels]
    outside = sorted(names - wheels.keys())
    found = [name for name in outside if not _failure(python, f"import ctypes; ctypes.CDLL({name!r})", {})]
    return Libraries(
        tuple(sorted(names & wheels.keys())),
        tuple(found),
        tuple(name for name in outside if name not in found),
    )


def needed(library: Path) -> list[str]:
    """The names of the libraries that a library links to."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", _output(["readelf", "--dynamic", "--wide", str(library)]))


def build_stubs(folder: Path) -> dict[str, str]:
    """Compile the stubs of the driver and of a device. Returns the variables with which a process uses both.

    Raises:
        ToolMissing: there is no C compiler.
    """
    driver, device = folder / DRIVER, folder / "device.so"
    for source, library in ((STUB / "driver.c", driver), (STUB / "device.c", device)):
        options = ["-shared", "-fPIC", "-Wall", f"-Wl,-soname,{library.name}", "-o", str(library)]
        _output(["cc", *options, str(source)])
    return {"LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": str(device)}


def failure_to_load(python: Path, environment: dict[str, str]) -> str:
    """Why the provider's library does not load in a process of its own; empty if it loads."""
    return _failure(python, LOAD, environment)


def _failure(python: Path, code: str, environment: dict[str, str]) -> str:
    run = subprocess.run(
        [python, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return (
        ""
        if run.returncode == 0
        else (run.stderr.strip().splitlines() or [f"ended with {run.returncode}"])[-1]
    )


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    except FileNotFoundError:
        raise ToolMissing(
            f"{command[0]} is not installed; install a C compiler with binutils, such as the package gcc"
        ) from None
