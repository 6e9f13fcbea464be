"""The page at GET / as HTTP serves it. tests/test_page_browser.py uses it in a browser."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from conftest import DEFAULT_BUNDLE, ROOT
from fastapi import FastAPI

from api.app import create_app
from api.page.card import card_page
from api.page.serving import FOLDER
from api.service import RelationService
from api.settings import Settings


def app(**settings: Any) -> FastAPI:
    """An application whose bundle has not been loaded."""
    return create_app(RelationService(Settings(bundle=DEFAULT_BUNDLE, **settings), pytest.fail))


def get(app: FastAPI, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


def files(app: FastAPI) -> dict[str, httpx.Response]:
    """The page and every file that it or the card's page loads, directly or from a module, by path."""
    found = {"/": get(app, "/")}
    folder = re.search(r"/page/\w+/", found["/"].text)
    assert folder is not None
    waiting = re.findall(r'(?:src|href)="\.?(/page/[^"]+)"', found["/"].text)
    waiting += [folder[0] + name for name in ("card.js", "card.css")]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = get(app, path)
            waiting += [folder[0] + name for name in re.findall(r'from "\./([^"]+)"', found[path].text)]
    return found


def test_the_page_and_all_its_files_are_there_and_small() -> None:
    served = files(app())
    assert {answer.status_code for answer in served.values()} == {200}
    assert len(served) > 10
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 150_000
    types = {path.rpartition(".")[2]: answer.headers["content-type"] for path, answer in served.items()}
    assert types["/"].startswith("text/html")
    assert types["js"].startswith("text/javascript")
    assert types["css"].startswith("text/css")
    assert types["svg"] == "image/svg+xml"


def test_no_file_names_another_host() -> None:
    for path, answer in files(app()).items():
        assert set(re.findall(r"https?://[\w.]+", answer.text)) <= {"http://www.w3.org"}, path


def test_the_page_runs_no_inline_script_and_shows_no_text_as_html() -> None:
    served = files(app())
    for answer in served.values():
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    html = served["/"].text
    assert re.findall(r"<script(?![^>]* src=)", html) == []
    assert re.findall(r"<style| style=| on\w+=", html) == []


def test_files_are_kept_for_good_and_the_page_is_checked_each_time() -> None:
    served_app = app()
    served = files(served_app)
    page = served.pop("/")
    assert page.headers["cache-control"] == "no-cache"
    assert {answer.headers["cache-control"] for answer in served.values()} == {
        "public, max-age=31536000, immutable"
    }
    again = get(served_app, "/", **{"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert get(served_app, "/", **{"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/0123456789abcdef/main.js", "{folder}/none.js", "{folder}/index.html"]
)
def test_a_file_that_is_not_there_is_404(path: str) -> None:
    served_app = app()
    folder = next(path for path in files(served_app) if path.endswith("/main.js")).removesuffix("/main.js")
    assert get(served_app, path.format(folder=folder)).status_code == 404


def test_head_is_answered_as_get() -> None:
    assert get(app(), "/", method="HEAD").status_code == 200


def test_the_page_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_PAGE", "false")
    assert get(app(), "/").status_code == 404


def test_the_page_needs_no_key_and_what_it_asks_does() -> None:
    guarded = app(api_key="secret")
    assert {answer.status_code for answer in files(guarded).values()} == {200}
    assert get(guarded, "/info").status_code == 401
    assert get(guarded, "/relations", method="POST").status_code == 401


def test_the_page_links_to_the_documents_only_where_they_are() -> None:
    assert 'href="docs" data-word="docsLink" hidden' in get(app(docs=False), "/").text
    assert 'href="docs" data-word="docsLink" hidden' not in get(app(), "/").text


def test_the_page_is_not_in_the_openapi_document() -> None:
    assert "/" not in app().openapi()["paths"]


def test_the_model_card_is_a_page_without_html_of_its_own() -> None:
    page = card_page(
        "---\nlicense: mit\n---\n\n# 모델 <b>\n\n![plot](x.svg)\n\n| a | b |\n| - | - |\n| 1 | <script>2 |\n"
        "\n[here](https://example.com) <img src=x> {title}\n",
        "<title>{title}</title>{card}",
    )
    assert "<title>모델 &lt;b&gt;</title>" in page
    assert "<td>1</td>" in page
    assert "license" not in page
    assert page.endswith("{title}</p>\n")
    assert not re.search(r"<(script|img|a|b)\b", page)


def test_every_fault_that_an_example_can_have_has_a_sentence_in_both_languages() -> None:
    written = "".join(path.read_text() for path in (ROOT / "models").glob("*.py"))
    kinds = {
        *re.findall(r'_invalid\(\s*"(\w+)"', written),
        *re.findall(r'Problem\(\(.*?\), "(\w+)"', written),
    }
    assert {"blank", "window", "overlap"} <= kinds
    kinds |= {"string_type", "int_type", "literal_error", "model_type", "too_short", "too_long"}  # pydantic's
    words = re.findall(
        r"^  faults: \{\n(.+?)^  \},", (FOLDER / "words.js").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(words) == 2
    for language in words:
        sentences = set(re.findall(r"^    (\w+): ", language, re.MULTILINE))
        assert kinds - {"ambiguous"} <= sentences  # the page never sends two forms in one


def test_there_is_no_card_before_the_bundle_is_loaded() -> None:
    assert get(app(), "/card").status_code == 503
    assert get(app(page=False), "/card").status_code == 404
    assert get(app(api_key="secret"), "/card").status_code == 401
