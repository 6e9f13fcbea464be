"""Bundles on the Hugging Face hub, with a hub of the tests' own on the loopback. Each command is a process of
its own, because `huggingface_hub` reads its settings when it is imported."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from hub import TOKEN, Hub, small_hub
from manifests import rewrite, sign
from servers import ASKED, post, running

from models.bundle import CARD
from models.hub import pinned


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and an empty cache."""
    with small_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def carded(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with a card."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (copy / CARD).write_text("---\nlanguage: ko\n---\n# tiny\n", encoding="utf-8")
    sign(copy)
    return copy


def run(*command: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def inspect(address: str) -> str:
    """The name of the bundle at an address."""
    done = run("export.inspect", address)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["name"])


def refusal(*command: object) -> str:
    """The one line of a command that is refused; a server logs before."""
    done = run(*command)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return line


@pytest.mark.slow
def test_a_bundle_is_pushed_served_reloaded_and_served_without_the_hub(
    hub: Hub, carded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pushed = run("export.push", carded, "mine/tiny", "--private")
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["mine/tiny"]
    assert repository.private
    assert json.loads(pushed.stdout)["address"] == f"hf://mine/tiny@{repository.branches['main']}"

    with running("hf://mine/tiny") as server:
        before = post(server.client, ASKED).json()
        assert before["relation"]

        rewrite(carded, lambda manifest: manifest.update(name="the new one"))
        assert run("export.push", carded, "mine/tiny").returncode == 0
        server.process.send_signal(signal.SIGUSR1)
        server.logged("swapped: the new one")

        repository.commit("main", {**repository.files(), "manifest.json": b"{}"})
        server.process.send_signal(signal.SIGUSR1)
        assert "manifest.json has been altered" in server.logged("the new bundle was refused")
        assert post(server.client, ASKED).json() == before

    *_, good, _ = repository.commits
    address = f"hf://mine/tiny@{good}"
    hub.server_close()
    with running(address) as server:
        assert post(server.client, ASKED).json() == before
        assert "mine/tiny is taken from the cache" in server.logged("does not answer")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert inspect(address) == "the new one"


def test_a_push_leaves_no_file_of_an_earlier_bundle(
    hub: Hub, carded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    repository = hub.put("mine/tiny", carded)
    repository.commit("main", {**repository.files(), "members/old.onnx": b"old"})
    assert run("export.push", carded, "mine/tiny", "--revision", "next").returncode == 0
    assert "members/old.onnx" in repository.files()
    assert repository.files("next").keys() == repository.files().keys() - {"members/old.onnx"}
    assert inspect("hf://mine/tiny@next") == "tiny"


def test_scoring_takes_a_bundle_from_the_hub(
    hub: Hub, tiny_bundle: Path, rows_file: Path, tmp_path: Path
) -> None:
    hub.put("mine/tiny", tiny_bundle)
    done = run("scoring", rows_file, tmp_path / "out.jsonl", "--bundle", "hf://mine/tiny", "--tuning-s", 0)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(rows_file.read_text().splitlines())


def test_a_private_bundle_needs_the_token(
    hub: Hub, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("mine/tiny", tiny_bundle, private=True)
    assert "shows no such repository" in refusal("export.inspect", "hf://mine/tiny")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert inspect("hf://mine/tiny") == "tiny"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "set HF_TOKEN to a token" in refusal("export.inspect", "hf://mine/tiny"), "though it is cached"


def test_a_byte_that_was_changed_on_the_hub_is_refused(hub: Hub, tiny_bundle: Path) -> None:
    repository = hub.put("mine/tiny", tiny_bundle)
    name = next(path for path in repository.files() if path.endswith(".onnx"))
    content = repository.files()[name]
    repository.commit("main", {**repository.files(), name: content[:-1] + bytes([content[-1] ^ 1])})
    line = refusal("api", "--port", 0, "--bundle", "hf://mine/tiny")
    assert f"{name} has been altered" in line
    assert "hf://mine/tiny" in line


def test_a_download_that_breaks_off_is_one_plain_line_and_can_be_repeated(
    hub: Hub, tiny_bundle: Path
) -> None:
    hub.put("mine/tiny", tiny_bundle)
    hub.cuts = True
    line = refusal("export.inspect", "hf://mine/tiny")
    assert "bundle hf://mine/tiny: " in line
    assert "try again" in line
    hub.cuts = False
    assert inspect("hf://mine/tiny") == "tiny"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("hf://mine/tiny@v9", "the repository has no such revision; name a branch"),
        ("hf://mine/other", "shows no such repository; check its name"),
        ("hf://mine", "write hf://owner/name@revision"),
        ("hf://mine/tiny@../main", "write hf://owner/name@revision"),
    ],
)
def test_a_wrong_address_is_one_plain_line(hub: Hub, tiny_bundle: Path, address: str, reason: str) -> None:
    hub.put("mine/tiny", tiny_bundle)
    assert reason in refusal("export.inspect", address)


def test_offline_a_bundle_that_is_not_in_the_cache_is_one_plain_line(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "download it once without HF_HUB_OFFLINE" in refusal("export.verify", "hf://mine/tiny")


def test_a_folder_that_cannot_hold_the_cache_is_named(
    hub: Hub, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("mine/tiny", tiny_bundle)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    line = refusal("export.inspect", "hf://mine/tiny")
    assert str(tmp_path / "file") in line
    assert "HF_HOME" in line


def test_a_push_without_a_card_or_a_token_is_one_plain_line(
    hub: Hub, tiny_bundle: Path, carded: Path
) -> None:
    assert f"python -m export.card {tiny_bundle} --data" in refusal("export.push", tiny_bundle, "mine/tiny")
    assert "set HF_TOKEN" in refusal("export.push", carded, "mine/tiny")
    assert "write owner/name" in refusal("export.push", carded, "tiny")


def test_other_machines_get_the_commit_that_was_opened() -> None:
    opened = Path("cache/models--mine--tiny/snapshots/0123abc")
    assert pinned("hf://mine/tiny@next", opened) == "hf://mine/tiny@0123abc"
    assert pinned("bundles/mine", opened) == opened


@pytest.mark.parametrize("command", ["export.cascade", "export.add_cuda", "export.card", "export.push"])
def test_commands_that_need_a_folder_refuse_an_address(command: str) -> None:
    rest = ["mine/tiny"] if command == "export.push" else ["--data", "rows.jsonl"]
    assert "name a folder of this machine" in refusal(command, "hf://mine/tiny", *rest)
