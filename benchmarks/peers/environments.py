"""A virtual environment for each peer: their pinned versions exclude each other."""

import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "requirements"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment. Installs it first if it is missing or its requirements
    changed.

    Raises:
        subprocess.CalledProcessError: pip failed; it has printed why.
    """
    folder = ENVIRONMENTS / peer
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = (REQUIREMENTS / f"{peer}.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer} into {folder.relative_to(ROOT)}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]
        subprocess.run([*pip, REQUIREMENTS / f"{peer}.txt"], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Every distribution in an interpreter's environment, and its version."""
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    found = importlib.metadata.distributions(path=[str(site)])
    return dict(sorted((distribution.name, distribution.version) for distribution in found))
