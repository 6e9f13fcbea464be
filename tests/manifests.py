"""Bundles whose manifest was changed by hand, and how they are refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle import MANIFEST, SUMS, Bundle, BundleRefused


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and write the sums again."""
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    sign(path)


def sign(path: Path) -> None:
    """Write the sums over all files, as `sha256sum` does."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != SUMS)
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(path).as_posix()}"
        for file in files
    ]
    (path / SUMS).write_text("\n".join(sums) + "\n", encoding="utf-8")


def refusal(path: Path) -> str:
    """The one plain line of a bundle that is refused."""
    with pytest.raises(BundleRefused) as refused:
        Bundle.open(path)
    message = str(refused.value)
    assert "\n" not in message
    return message
