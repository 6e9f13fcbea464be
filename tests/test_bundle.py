"""A bundle that differs from its own account of itself is refused in one plain line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import bundle
from models.bundle import Bundle, BundleRefused


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and sign it again: what a careless or clever hand would do."""
    manifest = json.loads((path / bundle.MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (path / bundle.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    sign(path)


def sign(path: Path) -> None:
    lines = [f"{bundle._sha256(path / name)}  {name}\n" for name in sorted(bundle._present(path))]
    (path / bundle.SUMS).write_text("".join(lines), encoding="utf-8")


def refusal(path: Path) -> str:
    with pytest.raises(BundleRefused) as refused:
        Bundle.open(path)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_an_untouched_bundle_opens(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    assert [member.layers for member in manifest.members] == [1, 2], "cheapest first"
    assert [member.weight for member in manifest.members] == [1, 2], "weights follow their checkpoints"
    assert {file.precision for member in manifest.members for file in member.files} == {"int8", "fp32"}


def test_the_sums_are_those_of_sha256sum(tiny_bundle: Path) -> None:
    for line in (tiny_bundle / bundle.SUMS).read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert bundle._sha256(tiny_bundle / name) == digest


@pytest.mark.parametrize("pattern", ["members/*/int8.onnx", "tokenizers/*.json", "manifest.json"])
def test_an_altered_file_is_refused(copy: Path, pattern: str) -> None:
    victim = next(copy.glob(pattern))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert f"{victim.relative_to(copy).as_posix()} has been altered" in refusal(copy)


@pytest.mark.parametrize("pattern", ["members/*/int8.onnx", "manifest.json", "SHA256SUMS"])
def test_a_missing_file_is_refused(copy: Path, pattern: str) -> None:
    victim = next(copy.glob(pattern))
    victim.unlink()
    message = refusal(copy)
    assert victim.name in message
    assert "is missing" in message


def test_an_unlisted_file_is_refused(copy: Path) -> None:
    (copy / "members" / "stowaway.bin").write_bytes(b"?")
    assert "members/stowaway.bin is not listed" in refusal(copy)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nothing")


def test_a_link_is_refused_whatever_it_points_to(copy: Path) -> None:
    (copy / "members" / "extra").symlink_to(copy.parent)
    assert "members/extra is neither a file nor a folder" in refusal(copy)


@pytest.mark.parametrize("part", ["golden", "quality"])
def test_a_bundle_without_a_proof_for_its_device_is_refused(copy: Path, part: str) -> None:
    rewrite(copy, lambda manifest: manifest.update({part: {}}))
    assert "golden or quality is missing for cpu" in refusal(copy)


def test_permuted_labels_are_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["labels"].reverse())
    assert "labels are not KLUE's 30 relations in their official order" in refusal(copy)


def test_a_missing_label_is_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["labels"].pop())
    assert "29 of 30 given" in refusal(copy)


def test_a_newer_format_is_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest.update(format_version=2))
    assert "format_version 2 is not the one this version reads (1)" in refusal(copy)


def test_an_unknown_marker_style_is_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["members"][0]["encoding"].update(markers="runes"))
    assert "runes" in refusal(copy)


def test_a_manifest_that_names_a_file_outside_is_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["members"][0]["encoding"].update(tokenizer="../../secret.json"))
    assert "../../secret.json, which is not in the bundle" in refusal(copy)


def test_a_manifest_that_is_not_json_is_refused(copy: Path) -> None:
    (copy / bundle.MANIFEST).write_text("{", encoding="utf-8")
    sign(copy)
    assert "manifest.json" in refusal(copy)
