"""The page in a real browser: Chromium, driven by Playwright, against a server with the default bundle."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DEFAULT_BUNDLE
from servers import running

api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
expect = api.expect
expect.set_options(timeout=60_000)  # a slow machine fails no test; one that passes waits for nothing

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SMALL = {"lanes": 1, "threads": 1, "all_cores_for_one": False}
BORN = "배우 윤가람은 부산에서 태어났다."
TEAM = "한강 FC의 주장 강태오와 감독 유정민은 우승 소감을 밝혔다."

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; apt-get install chromium"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running(DEFAULT_BUNDLE, **SMALL) as started:
        yield started.url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # Chromium's sandbox refuses to run as root. Without a GPU its stand-in for one costs more than it helps.
    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


class Visit:
    """A page that is open in a browser, with what it wrote to the console and which other hosts it asked."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        page.route(lambda address: not address.startswith((url, "blob:")), self._refuse)

    def _heard(self, message: Any) -> None:
        refused = "Failed to load resource" in message.text  # Chromium reports each 4xx so
        if message.type in ("error", "warning") and not refused:
            self.errors.append(message.text)

    def _refuse(self, route: Any) -> None:
        self.elsewhere.append(route.request.url)
        route.abort()


Open = Callable[..., Any]


@pytest.fixture
def visit(chromium: Any, server: str) -> Iterator[Open]:
    """Opens the page. At the end no visit has had an error, or asked another host."""
    visits: list[Visit] = []

    def open_page(path: str = "", url: str = server, **options: Any) -> Any:
        context = chromium.new_context(**{"locale": "ko-KR", "reduced_motion": "reduce", **options})
        context.set_default_timeout(60_000)
        visits.append(Visit(context.new_page(), url))
        page = visits[-1].page
        page.goto(f"{url}/{path}")
        return page

    yield open_page
    for seen in visits:
        seen.page.context.close()
        assert seen.errors == []
        assert seen.elsewhere == []


def sent(page: Any, act: Callable[[], object]) -> dict[str, Any]:
    """The body of the request that follows from what `act` does."""
    with page.expect_request("**/relations") as asked:
        act()
    return dict(json.loads(asked.value.post_data))


def select(page: Any, word: str) -> None:
    """Select a word in the sentence by keys alone, from the start of the sentence."""
    sentence = page.locator("#sentence").input_value()
    before = sentence.index(word)
    page.keyboard.press("Control+Home")
    for _ in sentence[:before]:  # an arrow key passes an emoji in one step
        page.keyboard.press("ArrowRight")
    for _ in word:
        page.keyboard.press("Shift+ArrowRight")


def tab_to(page: Any, what: str, wanted: str) -> None:
    """Press Tab until an expression about the focused element has a value."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(what) == wanted:
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def write_sentence(page: Any, sentence: str) -> None:
    """Reach the field by Tab and write into it."""
    tab_to(page, "document.activeElement.id", "sentence")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(sentence)


def mark(page: Any, word: str, type_: str) -> None:
    """Mark a word by keys alone: select it, Enter, Tab to its type, Enter."""
    select(page, word)
    page.keyboard.press("Enter")
    if type_ != "사람":  # the first
        tab_to(page, "document.activeElement.textContent", type_)
    page.keyboard.press("Enter")


def upload(page: Any, name: str, text: str, encoding: str = "utf-8") -> None:
    file = {"name": name, "mimeType": "text/plain", "buffer": text.encode(encoding)}
    page.locator("input[type=file]").set_input_files(file)


def as_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "guid": f"row-{index}",
            "sentence": BORN,
            "subject_entity": {"word": "윤가람", "start_idx": 3, "end_idx": 5, "type": "PER"},
            "object_entity": {"word": "부산", "start_idx": 8, "end_idx": 9, "type": "LOC"},
            "label": "per:place_of_birth" if index % 3 else "per:origin",
        }
        for index in range(count)
    ]


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize(
    ("locale", "example", "relation"), [("ko-KR", "결혼", "배우자"), ("en-US", "Marriage", "spouse")]
)
def test_an_example_is_answered_in_the_browsers_language(
    visit: Open, locale: str, example: str, relation: str
) -> None:
    page = visit(locale=locale)
    page.get_by_role("button", name=example, exact=True).click()
    expect(page.locator("#answer .relation")).to_have_text(relation)
    expect(page.locator("#answer .bars li")).to_have_count(5)
    page.locator("#answer .bars + button").click()
    expect(page.locator("#answer .bars li")).to_have_count(30)
    expect(page.locator("#served .quality dd")).to_contain_text("micro-F1")


def test_the_chosen_language_is_remembered(visit: Open) -> None:
    page = visit(locale="ko-KR")
    page.get_by_role("button", name="English").click()
    expect(page.locator("#answer .relation")).to_have_text("spouse")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#answer .relation")).to_have_text("spouse")


def test_both_languages_have_the_same_words(visit: Open) -> None:
    page = visit()
    script = page.locator("script[src]").get_attribute("src").replace("main.js", "words.js")
    shape = """async (script) => {
        const { WORDS } = await import(new URL(script, document.baseURI));
        const entry = ([name, value]) => typeof value === "object"
            ? shape(value).map((inner) => `${name}.${inner}`)
            : [`${name} ${typeof value}`];
        const shape = (words) => Object.entries(words).flatMap(entry);
        return [shape(WORDS.ko), shape(WORDS.en)];
    }"""
    korean, english = page.evaluate(shape, script)
    assert korean == english


def test_two_entities_are_marked_by_keyboard_alone(visit: Open) -> None:
    page = visit()
    write_sentence(page, BORN)
    mark(page, "윤가람", "사람")
    mark(page, "부산", "장소")
    expect(page.locator("#answer .relation")).to_have_text("출생지")
    expect(page.locator(".entities .word")).to_have_text(["윤가람", "부산"])


def test_offsets_are_sent_in_code_points(visit: Open) -> None:
    page = visit()
    write_sentence(page, "🎉👍 배우 윤가람은 부산에서 태어났다.")
    mark(page, "윤가람", "사람")
    body = sent(page, lambda: mark(page, "부산", "장소"))
    assert body["subject_entity"] == {"word": "윤가람", "start_idx": 6, "end_idx": 8, "type": "PER"}
    assert body["object_entity"] == {"word": "부산", "start_idx": 11, "end_idx": 12, "type": "LOC"}
    expect(page.locator("#answer .relation")).to_be_visible()


def test_entities_move_with_their_text(visit: Open) -> None:
    page = visit()
    expect(page.locator("#answer .relation")).to_be_visible()
    page.locator("#sentence").focus()
    page.keyboard.press("Control+Home")
    body = sent(page, lambda: page.keyboard.insert_text("😀 유명한 "))
    assert body["subject_entity"]["word"] == "문태경"
    assert body["subject_entity"]["start_idx"] == 10
    expect(page.locator("#answer .relation")).to_have_text("배우자")


def test_a_selected_particle_is_offered_to_be_left_out(visit: Open) -> None:
    page = visit()
    write_sentence(page, BORN)
    select(page, "윤가람은")
    expect(page.locator("#marking")).to_contain_text("‘은’이 조사라면")
    page.locator("#marking").get_by_role("button", name="‘은’ 빼기").click()
    page.get_by_role("button", name="사람", exact=True).click()
    expect(page.locator(".entities .word")).to_have_text(["윤가람"])


def test_a_marked_particle_is_offered_to_be_left_out_and_never_is_by_itself(visit: Open) -> None:
    page = visit()
    write_sentence(page, BORN)
    mark(page, "부산", "장소")
    expect(page.locator(".particle")).to_have_count(0)
    body = sent(page, lambda: mark(page, "윤가람은", "사람"))
    assert body["subject_entity"]["word"] == "윤가람은"
    body = sent(page, page.locator(".particle button").click)
    assert body["subject_entity"] == {"word": "윤가람", "start_idx": 3, "end_idx": 5, "type": "PER"}
    expect(page.locator(".particle")).to_have_count(0)


PLACE_OF_WORD = """(word) => {  // the copy of the text under the field has the field's lines
    const texts = document.createTreeWalker(document.querySelector("#mirror"), NodeFilter.SHOW_TEXT);
    while (!texts.nextNode().data.includes(word));
    const range = document.createRange();
    const start = texts.currentNode.data.indexOf(word);
    range.setStart(texts.currentNode, start);
    range.setEnd(texts.currentNode, start + 1);
    const { x, y, width, height } = range.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
}"""


class Finger:
    """A finger on a phone's screen: touches as the browser gets them from the system."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.session = page.context.new_cdp_session(page)

    def press(self, locator: Any) -> None:
        """Put the finger down on an element."""
        locator.scroll_into_view_if_needed()
        box = locator.bounding_box()
        self._down(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def select(self, word: str) -> None:
        """Tap a word of the sentence twice, as in any text field: it is selected, its particle too."""
        self.page.locator("#sentence").scroll_into_view_if_needed()
        place = self.page.evaluate(PLACE_OF_WORD, word)
        for _ in range(2):
            self._down(*place)
            self.lift()

    def lift(self) -> None:
        self._touch("touchEnd", [])

    def _down(self, x: float, y: float) -> None:
        self._touch("touchStart", [{"x": x, "y": y}])

    def _touch(self, kind: str, points: list[dict[str, float]]) -> None:
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def on_phone(visit: Open, **options: Any) -> Any:
    return visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, **options)


def test_words_are_marked_by_touch_alone(visit: Open) -> None:
    page = on_phone(visit)
    page.locator("#clear").tap()
    page.locator("#sentence").fill(BORN)
    finger = Finger(page)
    for word, particle, type_ in (("윤가람", "은", "사람"), ("부산", "에서", "장소")):
        finger.select(word)
        expect(page.locator("#marking .question")).to_contain_text(word + particle)
        page.locator("#marking").get_by_role("button", name=f"‘{particle}’ 빼기").tap()
        page.get_by_role("button", name=type_, exact=True).tap()
    expect(page.locator(".entities .word")).to_have_text(["윤가람", "부산"])
    expect(page.locator("#answer .relation")).to_have_text("출생지")


def test_a_phone_that_drops_the_selection_when_a_type_is_touched_still_marks_it(visit: Open) -> None:
    page = on_phone(visit)
    page.locator("#clear").tap()
    page.locator("#sentence").fill(BORN)
    page.locator("#sentence").evaluate("(field) => field.setSelectionRange(3, 6)")  # as its handles do
    finger = Finger(page)
    finger.press(page.get_by_role("button", name="사람", exact=True))
    page.locator("#sentence").evaluate("(field) => field.setSelectionRange(9, 9)")
    finger.lift()
    expect(page.locator(".entities .word")).to_have_text(["윤가람"])


def test_the_answer_is_brought_into_view_and_announced(visit: Open) -> None:
    page = on_phone(visit)
    expect(page.locator("#answer .relation")).to_be_attached()
    assert page.evaluate("scrollY") == 0  # not by itself when the page opens
    page.get_by_role("button", name="고향", exact=True).tap()
    expect(page.locator("#answer-label")).to_be_in_viewport()
    expect(page.locator("#answer .relation")).to_be_in_viewport()
    expect(page.get_by_role("status").filter(has_text="출생지")).to_have_text(
        re.compile("서하린, 강릉: 출생지, 확률")
    )
    page.locator("#sentence").focus()
    page.keyboard.press("Control+End")
    place = page.evaluate("scrollY")
    sent(page, lambda: page.keyboard.insert_text(" 그랬다."))
    expect(page.locator("#answer.stale")).to_have_count(0)
    assert page.evaluate("scrollY") == place  # nor under the hands of somebody who types


@pytest.mark.parametrize(("motion", "scrolling"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_scrolling_is_smooth_unless_reduced_motion_is_asked_for(
    visit: Open, motion: str, scrolling: str
) -> None:
    page = visit(reduced_motion=motion)
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == scrolling


@pytest.mark.parametrize("width", [360, 1024, 1920])
def test_nothing_is_wider_than_the_window(visit: Open, width: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    expect(page.locator("#answer .relation")).to_be_visible()
    upload(page, "rows.jsonl", as_lines(as_rows(3)))
    expect(page.locator("tbody tr")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_three_persons_or_organisations_give_six_pairs(visit: Open) -> None:
    page = visit()
    write_sentence(page, TEAM)
    mark(page, "한강 FC", "단체")
    sent(page, lambda: mark(page, "강태오", "사람"))  # two are asked as one example
    body = sent(page, lambda: mark(page, "유정민", "사람"))
    assert [entity["word"] for entity in body["entities"]] == ["한강 FC", "강태오", "유정민"]
    expect(page.locator("#answer .pairs > li")).to_have_count(6)
    page.locator("#answer .pairs summary").first.click()
    expect(page.locator("#answer .pairs .bars").first).to_be_visible()


def test_a_pair_without_a_relation_shows_its_probabilities_when_opened(visit: Open) -> None:
    page = visit()
    write_sentence(page, "가수 윤가람은 커피를 마셨고 배우 한가온은 책을 읽었다.")
    mark(page, "윤가람", "사람")
    mark(page, "커피", "그 밖의 이름")
    mark(page, "책", "그 밖의 이름")
    unrelated = page.locator(".unrelated details").first
    unrelated.locator("summary").click()
    expect(unrelated.locator(".bars li").first).to_contain_text("no_relation")


def test_an_ambiguous_word_shows_the_apis_message_at_its_field(visit: Open) -> None:
    page = visit()
    write_sentence(page, "윤가람은 부산에서 태어나 부산에서 자랐다.")
    mark(page, "윤가람", "사람")
    page.locator("#add-word").fill("부산")
    page.keyboard.press("Enter")
    faulty = page.locator(".entities li.faulty")
    expect(faulty).to_have_count(1)
    expect(faulty.locator(".faults")).to_contain_text("문장에 여러 번 나오는 말이에요.")
    expect(faulty.locator(".faults .api-says")).to_contain_text("occurs 2 times, at start_idx 5, 14")
    expect(faulty.locator("select")).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(
    ("locale", "sentence", "in_row"),
    [
        ("ko-KR", "문장에 없는 말이에요. 철자를 확인해 주세요.", "대상: 표시한 곳과 말이 달라요."),
        (
            "en-US",
            "This word is not in the sentence. Check its spelling.",
            "Object: The mark and its word differ.",
        ),
    ],
)
def test_a_fault_is_a_whole_sentence_in_the_pages_language(
    visit: Open, locale: str, sentence: str, in_row: str
) -> None:
    page = visit(locale=locale)
    page.locator("#add-word").fill("대구")
    page.locator("#add-word").press("Enter")
    line = page.locator(".entities .faults p")
    expect(line.locator(".api-says")).to_have_text("'대구' does not occur in the sentence")
    assert line.evaluate("(line) => line.firstChild.data") == sentence
    row = as_rows(1)[0]
    row["object_entity"] |= {"end_idx": 10}
    upload(page, "rows.jsonl", as_lines([row]))
    expect(page.locator("tbody tr.faulty")).to_contain_text(in_row)
    expect(page.locator("tbody tr.faulty .api-says")).to_contain_text("but the span 8-10 is")


def test_a_refusal_is_a_whole_sentence_with_the_servers_own_in_small_type(visit: Open) -> None:
    page = visit()
    expect(page.locator("#answer .relation")).to_be_visible()
    failed = {"status": 500, "json": {"detail": "internal error"}}
    page.route("**/relations", lambda route: route.fulfill(**failed))
    page.locator("#ask").click()
    expect(page.locator("#answer .notice")).to_have_text("서버에서 오류가 났어요. 다시 물어봐 주세요.")
    expect(page.locator("#answer .api-says")).to_have_text("internal error")
    upload(page, "rows.jsonl", as_lines(as_rows(1)))
    expect(page.locator(".status .api-says")).to_have_text("internal error")


def test_text_of_the_user_is_never_html(visit: Open) -> None:
    page = visit()
    sentence = "<img src=x onerror=alert(1)> 윤가람은 부산에서 태어났다."
    write_sentence(page, sentence)
    mark(page, "<img src=x onerror=alert(1)>", "그 밖의 이름")
    mark(page, "윤가람", "사람")
    expect(page.locator("#answer .relation")).to_be_visible()
    expect(page.locator("main img")).to_have_count(0)
    upload(page, "rows.jsonl", as_lines([{**as_rows(1)[0], "sentence": sentence}]))
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("main img")).to_have_count(0)


def test_a_link_holds_the_sentence_and_its_entities(visit: Open) -> None:
    page = visit()
    write_sentence(page, "🎉 " + BORN)
    mark(page, "윤가람", "사람")
    mark(page, "부산", "모르겠어요")
    page.locator("#copy-link").click()
    address = page.evaluate("location.href")
    another = visit("#" + address.partition("#")[2])
    expect(another.locator("#sentence")).to_have_value("🎉 " + BORN)
    expect(another.locator(".entities .word")).to_have_text(["윤가람", "부산"])
    expect(another.locator(".entities select")).to_have_count(2)
    expect(another.locator(".entities select").nth(1)).to_have_value("")
    expect(another.locator("#answer .relation")).to_be_visible()


@pytest.mark.parametrize("form", ["curl", "Python", "JavaScript"])
def test_the_request_is_shown_as_code(visit: Open, form: str) -> None:
    page = visit()
    page.locator("#code summary").click()
    page.get_by_role("button", name=form, exact=True).click()
    code = page.locator("#code pre").inner_text()
    assert "/relations" in code
    assert '"start_idx": 4' in code.replace(":4", ": 4")


def test_with_an_api_key_the_page_asks_for_it(visit: Open) -> None:
    with running(DEFAULT_BUNDLE, api_key="secret", **SMALL) as guarded:
        page = visit(url=guarded.url)
        page.locator("#key-field").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-note")).to_contain_text("키가 맞지 않아요")
        page.locator("#key-field").fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator("#answer .relation")).to_have_text("배우자")
        expect(page.locator("#key")).to_be_hidden()
        page.locator("#code summary").click()
        expect(page.locator("#code pre")).to_contain_text("Bearer $KORE_API_KEY")


def test_300_rows_with_refusals_in_between_end_complete(visit: Open) -> None:
    page = visit()
    expect(page.locator("#answer .relation")).to_be_visible()
    batches = 0

    def refuse_some(route: Any) -> None:
        nonlocal batches
        batches += 1
        if batches in (2, 5):
            busy = {"status": 429, "headers": {"Retry-After": "1"}, "json": {"detail": "the queue is full"}}
            route.fulfill(**busy)
        else:
            route.continue_()

    page.route("**/relations", refuse_some)
    rows = as_rows(300)
    rows[7]["object_entity"] = {"word": "대구"}
    upload(page, "rows.jsonl", as_lines(rows))
    expect(page.locator(".status")).to_contain_text("300행을 모두 마쳤어요. 1행은", timeout=120_000)
    expect(page.locator("tbody tr.faulty")).to_contain_text("대상: 문장에 없는 말이에요.")
    expect(page.locator("tbody tr")).to_have_count(300)
    expect(page.locator("#table .summary")).to_contain_text("299행 가운데 199행")
    page.get_by_label("라벨과 다른 행만").check()
    expect(page.locator("tbody tr")).to_have_count(100)
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="JSONL 내려받기").click()
    lines = Path(downloaded.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 300
    assert json.loads(lines[0])["guid"] == "row-0"
    assert len(json.loads(lines[0])["probabilities"]) == 30
    assert json.loads(lines[7])["error"].startswith("object_entity.word: '대구' does not occur")


def test_a_table_can_be_stopped_and_continued(visit: Open) -> None:
    page = visit()
    expect(page.locator("#answer .relation")).to_be_visible()
    busy = {"status": 429, "headers": {"Retry-After": "60"}, "json": {"detail": "the queue is full"}}
    page.route("**/relations", lambda route: route.fulfill(**busy))
    upload(page, "rows.jsonl", as_lines(as_rows(40)))
    expect(page.locator(".status")).to_contain_text("60초 뒤에")
    page.get_by_role("button", name="멈추기").click()
    expect(page.locator(".status")).to_contain_text("멈췄어요")
    page.unroute("**/relations")
    page.get_by_role("button", name="이어서 하기").click()
    expect(page.locator(".status")).to_contain_text("40행을 모두 마쳤어요.")


QUOTED = {**as_rows(1)[0], "sentence": '배우 윤가람은 부산에서 "태어났다".'}
CELLS = f'''sentence,subject_entity,object_entity
"{QUOTED["sentence"].replace('"', '""')}","{QUOTED["subject_entity"]}",부산
'''


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("rows.json", json.dumps([QUOTED], ensure_ascii=False), "utf-8"),
        ("rows.csv", CELLS, "utf-8-sig"),
        ("rows.csv", CELLS.replace(",", ";", 2).replace('",', '";'), "cp949"),
    ],
)
def test_other_forms_of_files(visit: Open, name: str, text: str, encoding: str) -> None:
    page = visit()
    expect(page.locator("#answer .relation")).to_be_visible()
    (row,) = sent(page, lambda: upload(page, name, text, encoding))["examples"]
    assert row["sentence"] == QUOTED["sentence"]
    assert row["subject_entity"] == QUOTED["subject_entity"]
    assert row["object_entity"]["word"] == "부산"
    expect(page.locator("tbody tr td").nth(3)).to_contain_text("%")


def test_a_file_that_cannot_be_read_says_where(visit: Open) -> None:
    page = visit()
    upload(page, "rows.jsonl", as_lines(as_rows(2)) + "\n{broken")
    expect(page.locator(".status")).to_contain_text("3번째 줄이 JSON이 아니에요")


def serious_faults(page: Any) -> list[tuple[str, list[str]]]:
    found = axe.Axe().run(page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in serious]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(visit: Open, scheme: str) -> None:
    page = visit(color_scheme=scheme, bypass_csp=True)  # axe itself makes HTML
    page.get_by_role("button", name="한 팀, 여섯 쌍").click()
    expect(page.locator("#answer .pairs")).to_have_count(2)
    page.locator("#answer summary").first.click()
    page.locator("#code summary").click()
    page.get_by_role("button", name="예문으로 해 보기").click()
    expect(page.locator(".status")).to_contain_text("모두 마쳤어요")
    page.locator("#add-word").fill("대구은")
    page.locator("#add-word").press("Enter")
    expect(page.locator(".entities .faults")).to_be_visible()
    assert serious_faults(page) == []
    page.goto(page.url.partition("#")[0] + "card")
    expect(page.locator("#figures .microF1 dd").first).to_contain_text(".")
    assert serious_faults(page) == []


def test_the_time_of_each_stage_is_shown(visit: Open) -> None:
    page = visit()
    legend = page.locator(".legend li")
    expect(legend).to_have_count(5)
    assert all(re.search(r"[\d.]+ ms", text) for text in legend.all_inner_texts())


def test_the_quality_report_is_one_click_away_and_fits_a_phone(visit: Open) -> None:
    page = on_phone(visit)
    with page.expect_popup() as opened:  # in a tab of its own: the sentence stays
        page.get_by_role("link", name="모델의 품질 보고서").click()
    page = opened.value
    expect(page.get_by_role("heading", level=1)).to_contain_text("default")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    table = page.get_by_role("region", name="관계별")  # scrolls sideways, so that no number is broken
    assert table.evaluate("(frame) => frame.scrollWidth > frame.clientWidth")
    lines = "(cells) => cells.map((cell) => getComputedStyle(cell).whiteSpace)"
    assert set(table.locator("td.figure").evaluate_all(lines)) == {"nowrap"}


def test_the_quality_report_speaks_korean_and_english(visit: Open) -> None:
    page = visit("card")
    expect(page.locator("#figures .microF1 dd").first).to_have_text(re.compile(r"^\d\d\.\d점$"))
    assert "–" not in page.locator("#figures dd").all_inner_texts()  # every figure was found
    expect(page.get_by_role("cell", name="서버가 답하는 그대로", exact=True)).to_be_visible()
    heads = page.locator("article :is(h1, h2, th)").all_inner_texts()
    assert [head for head in heads if not re.search("[가-힣]|^(micro-)?F1$|^AUPRC$|^$", head)] == []
    names = page.locator("td:first-child, article > ul:last-of-type li").all_inner_texts()
    assert [name for name in names if not re.search(r"[가-힣]|^[A-Z]{3} → [A-Z]{3}$|^[\d.~]+$", name)] == []
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="By relation")).to_be_visible()
    expect(page.get_by_role("cell", name="as served", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="How far can you trust this model?")).to_be_visible()


def test_asking_without_two_marks_says_what_to_do(visit: Open) -> None:
    page = visit()
    page.locator("#clear").click()
    page.locator("#sentence").fill(BORN)
    page.locator("#ask").click()
    expect(page.locator("#sentence-faults")).to_contain_text("두 이름을")
    page.locator("#add-word").fill("윤가람")
    page.locator("#add-word").press("Enter")
    expect(page.locator("#sentence-faults")).to_be_empty()
    page.locator("#ask").click()
    expect(page.locator("#sentence-faults")).to_contain_text("하나 더")
