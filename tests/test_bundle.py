"""A bundle that differs from its own account of itself is refused in one plain line."""

import hashlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DEFAULT_BUNDLE
from manifests import refusal, rewrite, sign

from export.replace import replacing
from export.whole_graphs import write_whole
from models import bundle
from models.bundle import Bundle, BundleRefused
from models.bundle_encoder import BundleEncoder
from models.ensemble import Ensemble


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def test_an_untouched_bundle_opens(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    assert [member.layers for member in manifest.members] == [1, 2], "cheapest first"
    assert [member.weight for member in manifest.members] == [1, 2], "weights follow their checkpoints"
    assert {file.precision for member in manifest.members for file in member.files} == {"int8", "fp32"}


def test_the_sums_are_those_of_sha256sum(tiny_bundle: Path) -> None:
    for line in (tiny_bundle / bundle.SUMS).read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tiny_bundle / name).read_bytes()).hexdigest() == digest


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


def test_sums_with_windows_line_ends_are_read(copy: Path) -> None:
    sums = copy / bundle.SUMS
    sums.write_bytes(sums.read_bytes().replace(b"\n", b"\r\n"))
    Bundle.open(copy)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{first}", "lists manifest.json twice"),
        ("{zeros}  manifest.json", "lists manifest.json twice"),
        ("", "is not a sum, two spaces and a file"),
        ("{zeros} *manifest.json", "is not a sum, two spaces and a file"),
        ("{zeros}  ../outside", "../outside is missing"),
        ("{zeros}  /etc/hostname", "/etc/hostname is missing"),
    ],
)
def test_odd_sums_are_refused(copy: Path, line: str, said: str) -> None:
    sums = copy / bundle.SUMS
    lines = sums.read_text(encoding="utf-8").splitlines()
    first = next(each for each in lines if each.endswith("  manifest.json"))
    (copy.parent / "outside").write_bytes(b"")
    added = line.format(first=first, zeros="0" * 64)
    sums.write_text("\n".join([*lines, added]) + "\n", encoding="utf-8")
    assert said in refusal(copy)


def test_a_manifest_or_a_tokenizer_that_fills_the_memory_is_refused_unread(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 1_000_000)
    tokenizer = copy / Bundle.open(copy).manifest.members[0].encoding.tokenizer
    with tokenizer.open("r+b") as file:
        file.truncate(bundle.MOST_BYTES + 1)
    sign(copy)
    opened = Bundle.open(copy)
    with pytest.raises(BundleRefused, match=f"{tokenizer.name} has .* bytes; at most"):
        BundleEncoder(opened)
    with (copy / bundle.MANIFEST).open("r+b") as file:
        file.truncate(bundle.MOST_BYTES + 1)
    sign(copy)
    assert f"{bundle.MANIFEST} has" in refusal(copy)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda manifest: manifest.update(name="retrained"), True),
        (lambda manifest: manifest["members"][0].update(weight=0.25), True),
        (lambda manifest: manifest.update(max_length=manifest["max_length"] - 1), False),
        (lambda manifest: manifest.update(type_restriction={"PER": {"LOC": ["per:place_of_birth"]}}), False),
        (lambda manifest: manifest["members"][0]["encoding"].update(pad_token_id=2), False),
    ],
    ids=["a name", "a weight", "the window", "the type restriction", "an encoding"],
)
def test_a_new_bundle_keeps_the_encoder_that_serves_only_if_it_encodes_in_the_same_way(
    copy: Path, change: Callable[[dict[str, Any]], None], kept: bool
) -> None:
    serving = BundleEncoder(Bundle.open(copy))
    rewrite(copy, change)
    assert (BundleEncoder.of(Bundle.open(copy), serving) is serving) == kept


def test_a_new_tokenizer_is_read(copy: Path) -> None:
    opened = Bundle.open(copy)
    serving = BundleEncoder(opened)
    with (copy / opened.manifest.members[0].encoding.tokenizer).open("a") as file:
        file.write("\n")
    sign(copy)
    assert BundleEncoder.of(Bundle.open(copy), serving) is not serving


def test_no_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nothing")


def linked_by_the_hub(bundle: Path, folder: Path) -> Path:
    """As the cache of the Hugging Face hub has it: every file is a relative link into one folder."""
    (folder / "blobs").mkdir()
    for number, (file, link) in enumerate(linked(bundle, folder / "snapshot")):
        os.link(file, folder / "blobs" / str(number))
        link.symlink_to(os.path.relpath(folder / "blobs" / str(number), link.parent))
    return folder / "snapshot"


def linked_by_dvc(bundle: Path, folder: Path) -> Path:
    """As DVC has it: every file is a link to a file in a folder of its own."""
    for number, (file, link) in enumerate(linked(bundle, folder / "bundle")):
        cached = folder / "cache" / str(number) / "content"
        cached.parent.mkdir(parents=True)
        os.link(file, cached)
        link.symlink_to(cached)
    return folder / "bundle"


def mounted_by_kubernetes(bundle: Path, folder: Path) -> Path:
    """As a ConfigMap or a Secret is mounted: a dated folder, a link to it, and links through that link."""
    shutil.copytree(bundle, folder / "..2026_11_28", copy_function=os.link)
    (folder / "..data").symlink_to("..2026_11_28")
    for each in bundle.iterdir():
        (folder / each.name).symlink_to(Path("..data", each.name))
    return folder


def with_linked_folders(bundle: Path, folder: Path) -> Path:
    for each in bundle.iterdir():
        (folder / each.name).symlink_to(each)
    return folder


def linked(bundle: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each file of a bundle, and where its link is to be made."""
    for file in bundle.rglob("*"):
        if file.is_file():
            link = folder / file.relative_to(bundle)
            link.parent.mkdir(parents=True, exist_ok=True)
            yield file, link


LAYOUTS = [linked_by_the_hub, linked_by_dvc, mounted_by_kubernetes, with_linked_folders]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the default bundle, whose graphs have files of weights; its files can be linked."""
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path_factory.mktemp("bundles") / "shipped"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bundle_of_links_answers_as_its_files_do(
    layout: Callable[[Path, Path], Path], shipped: Path, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    path = layout(shipped, tmp_path / "links")
    Ensemble.load(Bundle.open(path), "cpu").prove()
    assert len(write_whole(path, tmp_path / "whole", "cpu")) == len(Bundle.open(shipped).manifest.members)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bundle_of_links_is_held_to_its_sums(
    layout: Callable[[Path, Path], Path], copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    path = layout(copy, tmp_path / "links")
    with next(copy.glob("members/*/int8.onnx")).open("r+b") as file:
        file.write(b"altered")
    assert "int8.onnx has been altered" in refusal(path)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("..", "is not listed"),
        ("/", "is not listed"),
        ("nowhere", "members/extra is neither a file nor a folder"),
        ("extra", "members/extra is neither a file nor a folder"),
        ("../manifest.json", "members/extra is not listed"),
    ],
)
def test_a_link_to_what_is_not_listed_is_refused(copy: Path, target: str, said: str) -> None:
    (copy / "members" / "extra").symlink_to(target)
    assert said in refusal(copy)


def test_folders_linked_in_a_circle_are_refused(copy: Path) -> None:
    (copy / "empty").mkdir()
    for name in ("one", "another"):
        (copy / "empty" / name).symlink_to(copy / "empty")
    assert "is neither a file nor a folder" in refusal(copy)


@pytest.mark.parametrize("part", ["golden", "quality"])
def test_a_bundle_without_a_proof_for_its_device_is_refused(copy: Path, part: str) -> None:
    rewrite(copy, lambda manifest: manifest.update({part: {}}))
    assert "golden or quality is missing for cpu" in refusal(copy)


def test_permuted_labels_are_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["labels"].reverse())
    assert "labels are not KLUE's 30 relations in their official order" in refusal(copy)


def test_a_missing_label_is_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["labels"].pop())
    assert "there are 29" in refusal(copy)


def test_a_newer_format_is_refused(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest.update(format_version=2))
    assert "format_version is 2; this version reads 1" in refusal(copy)


def test_a_format_that_is_not_stated_is_one_short_line(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest.pop("format_version"))
    assert refusal(copy) == f"bundle {copy}: manifest.json: format_version: Field required"
    rewrite(copy, lambda manifest: manifest.update(format_version=["x"] * 1000))
    assert len(refusal(copy)) < len(str(copy)) + 150


def test_what_the_system_cannot_read_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    assert refusal(long) == f"bundle {long}: File name too long"


REPLACED = """
import os, resource, signal, sys
from pathlib import Path
from export.replace import recover, replacing
from models.bundle import Bundle, write

path = Path(sys.argv[1])

def replace(name):
    manifest = Bundle.open(path).manifest.model_copy(update={"name": name})
    with replacing(path) as copy:
        (copy / "plot.svg").write_text(name)
        write(copy, manifest)

def killed_at(line):
    def local(frame, event, argument):
        nonlocal line
        if event == "line":
            line -= 1
            if line == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return local
    ours = ("export/replace.py", "models/bundle.py", "<string>")
    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename.endswith(ours) else None)

def child(prepare, name):
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            replace(name)
        except OSError:
            os._exit(3)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

def full():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

before = Bundle.open(path).manifest.name
assert os.waitstatus_to_exitcode(child(full, "full")) == 3
assert Bundle.open(path).manifest.name == before, "a full disk changes nothing"
line, gone, names = 0, 0, []
while os.WIFSIGNALED(child(lambda: killed_at(line + 1), str(line))):
    gone += not path.exists()
    recover(path)
    names.append(Bundle.open(path).manifest.name)
    line += 1
assert Bundle.open(path).manifest.name == str(line)
assert before in names and len(set(names)) > 1, "killed before the bundle was replaced, and after"
assert gone >= 1, "killed between the two renames, and recovered"
hidden = [each.name for each in path.parent.iterdir() if each.name.endswith(".before")]
assert hidden == [], hidden
print(line)
"""
"""Replaces a bundle's manifest in processes that are killed before each line of code in turn, and in one
whose disk is full."""


@pytest.mark.slow
def test_a_change_that_is_killed_at_any_line_is_undone_or_complete(copy: Path) -> None:
    command = [sys.executable, "-c", REPLACED, str(copy)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


def test_a_changed_copy_takes_the_place_of_its_bundle(copy: Path) -> None:
    manifest = Bundle.open(copy).manifest.model_copy(update={"name": "changed"})
    with replacing(copy) as changed:
        bundle.write(changed, manifest)
    assert Bundle.open(copy).manifest.name == "changed"
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_change_that_fails_leaves_the_bundle(copy: Path) -> None:
    def fail() -> None:
        with replacing(copy) as changed:
            (changed / bundle.MANIFEST).unlink()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    Bundle.open(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("new", [False, True])
def test_the_next_change_recovers_a_bundle_after_a_kill(copy: Path, new: bool) -> None:
    """Killed between the two renames (the bundle is gone), or after them (the old bundle is left)."""
    before = copy.with_name(".copy.before")
    if new:
        shutil.copytree(copy, before)
    else:
        copy.rename(before)
    with replacing(copy):
        pass
    Bundle.open(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def first_file(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["members"][0]["files"][0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda manifest: manifest.update(max_length=300_000_000), "max_length"),
        (lambda manifest: manifest.update(name="line\nbreak"), "name"),
        (lambda manifest: manifest["golden"]["cpu"].update(tolerance=1e9), "golden.cpu.tolerance"),
        (lambda manifest: manifest["golden"]["cpu"].update(tolerance=math.inf), "golden.cpu.tolerance"),
        (lambda manifest: manifest["golden"]["cpu"].update(rows=[{}] * 100_000), "golden.cpu.rows"),
        (lambda manifest: manifest["members"][0].update(weight=math.inf), "members.0.weight"),
        (lambda manifest: manifest["members"][0].update(layers=-1), "members.0.layers"),
        (lambda manifest: manifest["members"][0]["encoding"].update(pad_token_id=-1), "pad_token_id"),
        (lambda manifest: first_file(manifest)["parity"].update(rows=-5), "parity.rows"),
        (lambda manifest: first_file(manifest)["parity"].update(label_agreement=1.5), "label_agreement"),
        (lambda manifest: manifest["quality"]["cpu"].update(micro_f1=math.nan), "quality.cpu.micro_f1"),
        (
            lambda manifest: manifest["members"][1].update(name=manifest["members"][0]["name"]),
            "two are called",
        ),
    ],
)
def test_a_number_out_of_its_bounds_or_a_name_given_twice_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    rewrite(copy, change)
    message = refusal(copy)
    assert field in message
    assert len(message) < 500 + len(str(copy))


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


def test_a_link_that_is_moved_after_the_check_does_not_lead_to_what_nobody_checked(
    tiny_bundle: Path, copy: Path, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(tiny_bundle)
    opened = Bundle.open(link)
    link.unlink()
    link.symlink_to(copy)
    assert opened.path == tiny_bundle.resolve()
    assert Bundle.open(link).path == copy.resolve()
