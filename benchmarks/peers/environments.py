"""A virtual environment for each peer: their pins do not fit together, and none of them belongs into ours."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "requirements"
STAMP = "installed.txt"


class InstallFailed(RuntimeError):
    """pip could not install a peer; the message is the end of what it said."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, built first if it is missing or its requirements have changed.

    Raises:
        InstallFailed: pip did not succeed.
    """
    folder = ENVIRONMENTS / peer
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = (REQUIREMENTS / f"{peer}.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer} into {folder.relative_to(ROOT)}", file=sys.stderr)
        ENVIRONMENTS.mkdir(exist_ok=True)
        (ENVIRONMENTS / ".gitignore").write_text("*\n")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run(
            [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                str(REQUIREMENTS / f"{peer}.txt"),
            ]
        )
        stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Every distribution beside an interpreter, and its version."""
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    return {
        found.name: found.version
        for found in sorted(importlib.metadata.distributions(path=[str(site)]), key=lambda found: found.name)
    }


def _run(command: list[str]) -> None:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        raise InstallFailed("\n".join(done.stderr.strip().splitlines()[-10:]))
