"""Changes to a bundle's files, and the error with which it is then refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle import MANIFEST, SUMS, Bundle, BundleRefused


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest and sign the bundle again, so that its hashes are right."""
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    sign(bundle)


def sign(bundle: Path) -> None:
    """Write the hashes of the files as they are now."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(bundle).as_posix()}\n"
        for path in files
    ]
    (bundle / SUMS).write_text("".join(lines), encoding="utf-8")


def refusal(bundle: Path) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleRefused) as refused:
        Bundle.open(bundle)
    message = str(refused.value)
    assert "\n" not in message
    return message
