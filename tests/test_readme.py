"""The README keeps to the code: its settings, its commands, its files."""

import re
from pathlib import Path

import pytest

from api.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_lists_every_setting_with_its_sentence() -> None:
    listed = dict(re.findall(r"^\| `KORE_([A-Z_]+)` \| [^|]+ \| (.+) \|$", README, re.MULTILINE))
    assert listed == {name.upper(): field.description for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("name", ["port", "device", "max_examples", "max_queue", "max_body_bytes", "max_wait_ms", "request_timeout_s"])
def test_the_table_gives_the_defaults(name: str) -> None:
    assert f"| `KORE_{name.upper()}` | `{Settings.model_fields[name].default}` |" in README


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_every_file_it_links_to_exists() -> None:
    assert [link for link in re.findall(r"\]\(([^)#:]+)\)", README) if not (ROOT / link).exists()] == []
