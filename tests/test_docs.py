"""The documents keep to the code: links, commands, requests and generated pages."""

import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from docs.generate import PAGES
from docs.plots import DRAWN, PICTURES, table
from loadtest.server import running
from training.run.recipe import ContextualRecipe, PretrainingRecipe, Recipe

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.ko.md"]
PAGES_OF_DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [*READMES, ROOT / "CHANGELOG.md", *PAGES_OF_DOCS]
# the history names commands as they were called on that day
CURRENT = [*READMES, *(page for page in PAGES_OF_DOCS if page.name != "log.md")]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(path: Path) -> str:
    """Everything in code fences and code spans."""
    text = text_of(path)
    fences = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*fences, *spans])


def anchors_of(path: Path) -> set[str]:
    """Of its headings, and of the table rows that have one."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return named | rows_of(path)


def rows_of(path: Path) -> set[str]:
    """The anchors of table rows."""
    return set(re.findall(r'^\| <a id="([^"]+)"></a>', text_of(path), re.MULTILINE))


def bodies_of(path: Path) -> list[dict[str, Any]]:
    """The bodies of the curl lines."""
    return [json.loads(body) for body in re.findall(r"curl [^\n]*-d '(\{.*?\})'\n", text_of(path), re.DOTALL)]


def answer_of(path: Path) -> dict[str, Any]:
    """The printed answer to the first curl line."""
    printed = re.search(r"^```json\n(\{\"relation\".*?)^```", text_of(path), re.MULTILINE | re.DOTALL)
    assert printed
    answer: dict[str, Any] = json.loads(printed[1])
    return answer


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_a_readme_is_read_in_three_minutes(readme: Path) -> None:
    assert len(text_of(readme).splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_prose_is_wrapped_at_100(document: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", text_of(document), flags=re.MULTILINE | re.DOTALL)
    long = [
        line for line in prose.splitlines() if len(line) > 100 and not line.startswith(("|", "![", "<!--"))
    ]
    assert long == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = document.parent / file if file else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_every_claim_to_be_faster_points_to_a_measured_row(readme: Path) -> None:
    for claim in re.split(r"\n\n|\n(?=[|-])", text_of(readme)):
        if re.search(r"\b(faster|fastest|times as (fast|many))\b|더 빠르|배 빠르", claim):
            rows = re.findall(r"\(docs/performance\.md#([^)]+)\)", claim)
            assert set(rows) & rows_of(ROOT / "docs" / "performance.md"), claim


@pytest.mark.parametrize("document", CURRENT, ids=name_of)
def test_every_command_exists(document: Path) -> None:
    code = code_of(document)
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)", code)) <= targets
    for module in re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", code):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("module", ["docs.generate", "docs.plots", "export.inspect", "scoring.compare"])
def test_help_exits_with_0(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        import_module(module).main(["--help"])
    assert leaving.value.code == 0
    assert "--help" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_current(name: str) -> None:
    assert text_of(ROOT / "docs" / name) == PAGES[name](), "run python -m docs.generate"


def test_every_setting_of_the_documents_exists() -> None:
    settings = set(re.findall(r"KORE_[A-Z_]+", PAGES["settings.md"]()))
    known = settings | {"KORE_ENCODER", "KORE_TARGET", "KORE_RUNTIME", "KORE_"}
    for document in CURRENT:
        assert set(re.findall(r"KORE_[A-Z_]*", text_of(document))) <= known, document


def test_each_promise_names_a_trial_or_a_test_that_exists() -> None:
    _, found, rest = text_of(ROOT / "docs" / "operations.md").partition("| situation | what happens |")
    assert found
    rows = [line.split(" | ") for line in rest.partition("\n\n")[0].splitlines()[2:]]
    tests = "\n".join(text_of(path) for path in (ROOT / "tests").glob("test_*.py"))
    for _, _, promised, shown in rows:
        names = re.findall(r"`([^`]+)`", shown)
        assert names or promised == "no"
        for name in names:
            module = name.removeprefix("python -m ")
            trial = module != name and (ROOT / f"{module.replace('.', '/')}.py").is_file()
            assert trial or f"def {name}(" in tests, name


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r": (\S+\.md)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES_OF_DOCS]


def test_the_pictures_are_there_and_their_tables_are_numbers() -> None:
    for name in (*PICTURES, *DRAWN):
        assert (ROOT / "docs" / "img" / f"{name}.svg").exists(), "run python -m docs.plots"
    for page, heading, columns in (
        ("performance.md", "What each part gives", slice(1, 5)),
        ("quality.md", "Can you trust the score?", slice(1, 4)),
    ):
        assert all(float(cell) >= 0 for row in table(page, heading) for cell in row[columns])


@pytest.fixture(scope="module")
def default_server() -> Iterator[httpx.Client]:
    """A server of the default bundle; without measuring, since only its answers count."""
    bundle = ROOT / "bundles" / "default"
    with running(bundle, tuning_s=0, lanes=1, threads=1, all_cores_for_one=False) as server:
        yield server.client
        server.stop()


def test_the_printed_requests_get_the_printed_answers(default_server: httpx.Client) -> None:
    pages = [*READMES, ROOT / "docs" / "http.md"]
    for page in pages:
        body = bodies_of(page)[0]
        answer = default_server.post("/relations", json=body).json()
        printed = answer_of(page)
        assert {name: answer[name] for name in ("relation", "members")} == {
            name: printed[name] for name in ("relation", "members")
        }
        assert list(answer["probabilities"]) == list(printed["probabilities"])
        assert answer["score"] == pytest.approx(printed["score"], abs=0.01)
    for page in (ROOT / "docs" / "quickstart.md", ROOT / "docs" / "quickstart.ko.md"):
        one, several = (default_server.post("/relations", json=body).json() for body in bodies_of(page))
        assert one["relation"] == "per:date_of_birth"
        assert [answer["relation"] for answer in several["predictions"]] == ["per:title", "org:founded"]


def test_the_printed_sentence_with_entities_gets_the_printed_relations(default_server: httpx.Client) -> None:
    page = ROOT / "docs" / "http.md"
    printed = re.search(r"^```json\n(\{\"relations\".*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    assert printed
    expected = json.loads(printed[1])
    answer = default_server.post("/relations", json=bodies_of(page)[1]).json()
    assert answer["pairs"] == expected["pairs"]
    for one, other in zip(answer["relations"], expected["relations"], strict=True):
        assert {**one, "score": 0, "probabilities": 0} == {**other, "score": 0, "probabilities": 0}
        assert one["score"] == pytest.approx(other["score"], abs=0.01)


def test_the_python_client_waits_as_it_is_told_and_names_every_fault(
    default_server: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "3"}, json={"detail": "full"}),
        httpx.Response(503, headers={"Retry-After": "2"}, json={"detail": "loading"}),
    ]
    slept: list[float] = []

    def post(url: str, **arguments: Any) -> httpx.Response:
        return answers.pop(0) if answers else default_server.post(url, **arguments)

    monkeypatch.setitem(sys.modules, "requests", SimpleNamespace(post=post))
    monkeypatch.setattr(time, "sleep", slept.append)
    page = ROOT / "docs" / "http.md"
    code = re.search(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    body = bodies_of(page)[0]
    url = str(default_server.base_url).rstrip("/")
    assert names["relations"](body, url)["relation"] == "per:date_of_birth"
    assert slept == [3, 2]
    with pytest.raises(ValueError, match="object_entity"):
        names["relations"]({"sentence": body["sentence"], "subject_entity": body["subject_entity"]}, url)


@pytest.mark.slow
def test_the_commands_of_the_training_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences = text_of(ROOT / "docs" / "training.md").split("```")
    block = next(fence for fence in fences if "training.tiny_encoder" in fence)
    commands = [line for line in block.splitlines() if line.startswith("python -m ")]
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for command in commands:
        _, _, module, *arguments = shlex.split(command)
        main = import_module("export.__main__" if module == "export" else module).main
        assert main(arguments) == 0, command
    assert (tmp_path / "runs" / "tiny" / "bundle" / "manifest.json").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*/*.yaml")), ids=name_of)
def test_every_recipe_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    monkeypatch.setenv("KLUE_RE_DATA", "a-folder")
    if path.name not in ("study.yaml", "deep.yaml", "query.yaml"):  # two studies and a marker template
        kinds = {"pretrain.yaml": PretrainingRecipe, "contextual.yaml": ContextualRecipe}
        kinds.get(path.name, Recipe).read(path)
