"""A virtual environment for each peer: their pinned versions exclude each other."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "requirements"
INTERPRETERS: Final = {"triton": "/usr/bin/python3.11"}
"""PyTriton's server is linked against the libpython of Debian 12."""
COMPLETE: Final = {"vllm"}
"""Environments in which pip installs the listed packages only. vLLM's own list has torchvision and
torchaudio, which do not load with PyTorch's wheel for CPUs."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment. Installs it first if it is missing or its requirements
    changed.

    Raises:
        subprocess.CalledProcessError: pip failed; it has printed why.
        FileNotFoundError: the interpreter that the peer needs is missing.
    """
    folder = ENVIRONMENTS / peer
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = (REQUIREMENTS / f"{peer}.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer} into {folder.relative_to(ROOT)}", file=sys.stderr)
        create = [INTERPRETERS.get(peer, sys.executable), "-m", "venv", "--clear", folder]
        subprocess.run(create, check=True, stdout=sys.stderr)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-deps"] * (peer in COMPLETE)
        subprocess.run([*pip, "-r", REQUIREMENTS / f"{peer}.txt"], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Every distribution in an interpreter's environment, and its version."""
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    found = importlib.metadata.distributions(path=[str(site)])
    return dict(sorted((distribution.name, distribution.version) for distribution in found))
