"""Ten thousand hostile requests while good ones run beside them: python -m loadtest.hostile

Promises: never a 500, never a hang, never an answer about a span that the rules refuse; and every good
request beside them is answered rightly. Hypothesis makes most of the requests (broken rows, any JSON, any
bytes, any headers); the rest were written by hand.
"""

import argparse
import asyncio
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loadtest.sentences import make_long_rows
from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.traffic import Outcome, by_status, closed_loop
from loadtest.verdict import conclude

ALLOWED = {200, 400, 413, 422, 429, 504}
"""The contract's answers; 400 is the HTTP parser's own, for what is not HTTP."""
HANG_S = 40.0  # longer than the server's own deadline of 30 s: until then an answer is on its way
GOOD_CONNECTIONS = 4
TYPES = ["PER", "ORG", "LOC", "DAT", "POH", "NOH"]

rows = make_long_rows(200)

# three people and two zero-width joiners, one sign on the screen
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"

NASTY_TEXT = [
    "", " ", "\u200b", "\u200d\u200d", "\x00", "\x07", "@", "# ^ 기타 ^", "</s>", "<mask>", "<s>[CLS]", "＜/s＞",
    "\u202e뒤집힌", "한글", "각", FAMILY,
    "\ufeff",
    "가" * 3000, "é́́́", "'; DROP TABLE--", "${jndi:ldap://x}", "\\ud800", "\n\r\t", "NaN",
]  # fmt: skip

text = st.one_of(
    st.text(max_size=80),
    st.sampled_from(NASTY_TEXT),
    st.builds("".join, st.lists(st.sampled_from(NASTY_TEXT), max_size=4)),
)
index = st.one_of(
    st.integers(-3, 90), st.integers(), st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**40])
)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | index | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
)
entity = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "word": text,
            "start_idx": index,
            "end_idx": index,
            "type": st.sampled_from(TYPES),
            "more": anything,
        },
    ),
    st.fixed_dictionaries(
        {}, optional={"word": anything, "start_idx": anything, "end_idx": anything, "type": anything}
    ),
    anything,
)


@st.composite
def broken_row(draw: st.DrawFn) -> Any:
    """A good row with something replaced, removed or moved."""
    row: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(rows))))
    for _ in range(draw(st.integers(1, 3))):
        field = draw(
            st.sampled_from(
                [
                    "sentence",
                    "subject_entity",
                    "object_entity",
                    "top_k",
                    "inside",
                    "insert",
                    "append",
                    "append",
                    "append",
                ]
            )
        )
        if field == "inside" and isinstance(row.get("object_entity"), dict):
            row["object_entity"][draw(st.sampled_from(["word", "start_idx", "end_idx", "type"]))] = draw(
                index | text | anything
            )
        elif field == "insert" and isinstance(row.get("sentence"), str):
            place = draw(st.integers(0, len(row["sentence"])))
            row["sentence"] = row["sentence"][:place] + draw(text) + row["sentence"][place:]
        elif field == "append" and isinstance(row.get("sentence"), str):
            row["sentence"] += draw(text)  # still a good row, with whatever beside its entities
        elif field == "top_k":
            row[field] = draw(anything)
        elif field in ("sentence", "subject_entity", "object_entity"):
            row[field] = draw(text) if field == "sentence" else draw(entity)
    return row


document = st.one_of(
    broken_row(),
    st.fixed_dictionaries({"sentence": text, "subject_entity": entity, "object_entity": entity}),
    st.fixed_dictionaries(
        {
            "examples": st.lists(st.one_of(broken_row(), st.sampled_from(rows), anything), max_size=5)
            | anything
        }
    ),
    anything,
)
body = st.one_of(
    document.map(lambda value: json.dumps(value).encode()),
    document.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.tuples(document, st.integers(0, 200)).map(lambda pair: json.dumps(pair[0]).encode()[: pair[1]]),
    st.sampled_from(["utf-16", "euc-kr", "utf-8-sig", "latin-1"]).map(
        lambda form: json.dumps(rows[0], ensure_ascii=False).encode(form, "replace")
    ),
    st.binary(max_size=300),
)
CONTENT_TYPES = ["application/json; charset=utf-8", "text/plain", "", "application/json; charset=\xff"]
headers = st.fixed_dictionaries(
    {"Content-Type": st.sampled_from(["application/json"] * 8 + CONTENT_TYPES)},
    optional={
        "X-Request-ID": st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=300),
        "X-Request-Timeout": st.sampled_from(["1", "0.001", "-1", "nan", "1e400", "٣", "1_0", "soon", "0x10"]),
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "gzip, gzip"]),
        "Accept": st.sampled_from(["text/html", "*/*;q=0", "nonsense"]),
    },
)  # fmt: skip


def by_hand() -> Iterator[tuple[bytes, dict[str, str]]]:
    """What somebody would send who wants to hurt."""
    plain = {"Content-Type": "application/json"}
    row = json.dumps(rows[0]).encode()
    yield b"[" * 1_000_000, plain
    yield b'{"a":' * 100_000, plain
    yield b'{"sentence": ' + b"9" * 1_000_000 + b"}", plain
    # a key twice: the last one counts, its spans are wrong
    yield row[:-1] + b', "sentence": "\xea\xb0\x80 \xeb\x82\x98"}', plain
    yield b" " * (4 * 1024 * 1024 + 1), plain
    yield json.dumps({"examples": rows * 50}).encode(), plain  # 10,000 of them
    yield json.dumps({"examples": [rows[0]] * 256, "top_k": 30}).encode(), plain
    yield json.dumps({"examples": [rows[0]] * 257}).encode(), plain
    for filler in ("가", "가 ", "\u200b", FAMILY, "각", " ", "@", "</s>"):
        sentence = "강하늘은 " + filler * (100_000 // len(filler)) + " 수원에 갔다."
        yield (
            json.dumps(
                {
                    "sentence": sentence,
                    "subject_entity": {"word": "강하늘"},
                    "object_entity": {"word": "수원"},
                }
            ).encode(),
            plain,
        )
        near = "강하늘은 수원에 갔다. " + filler * (100_000 // len(filler))
        yield (
            json.dumps(
                {"sentence": near, "subject_entity": {"word": "강하늘"}, "object_entity": {"word": "수원"}}
            ).encode(),
            plain,
        )
    yield (
        json.dumps(
            {"sentence": "가" * 100_000, "subject_entity": {"word": "가"}, "object_entity": {"word": "가가"}}
        ).encode(),
        plain,
    )
    yield row, {**plain, "Content-Encoding": "gzip"}
    yield row, {"Content-Type": "multipart/form-data; boundary=x"}


RAW = [
    b"GET /relations HTTP/9.9\r\n\r\n",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nContent-Type: application/json\r\nX-Request-Timeout: 1\r\n\r\n{",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /relations HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET /%00%ff/../relations HTTP/1.1\r\nHost: x\r\n\r\n",
]


def span_is_honest(asked: dict[str, Any]) -> bool:
    """The contract's rule on spans, written here again so that the server is not its own judge."""
    spans = []
    for field in ("subject_entity", "object_entity"):
        found, sentence = asked[field], asked["sentence"]
        word, start, end = found.get("word"), found.get("start_idx"), found.get("end_idx")
        if start is None and end is None:
            if [sentence.startswith(word, place) for place in range(len(sentence))].count(True) != 1:
                return False
            start = sentence.index(word)
            end = start + len(word) - 1
        if not 0 <= start <= end < len(sentence) or (word is not None and sentence[start : end + 1] != word):
            return False
        spans.append((start, end))
    first, second = sorted(spans)
    return first[1] < second[0]


class Trial:
    """Sends hostile requests to one server and keeps what went wrong."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=HANG_S, trust_env=False)
        self.statuses: Counter[int] = Counter()
        self.wrongs: list[str] = []
        self.slowest = 0.0

    def send(self, content: bytes, sent: dict[str, str]) -> None:
        began = time.monotonic()
        encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in sent.items()]
        try:
            answer = self.client.post("/relations", content=content, headers=encoded)
        except httpx.TimeoutException:
            self._wrong("hang", content)
            return
        except httpx.TransportError as error:
            # An oversized body may be cut off while it is still being sent: its 413 has been written, the
            # sender may not see it.
            self.statuses[413 if len(content) > 4_000_000 else 0] += 1
            if len(content) <= 4_000_000:
                self._wrong(f"{type(error).__name__}: {error}", content)
            return
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[answer.status_code] += 1
        if answer.status_code not in ALLOWED:
            self._wrong(f"status {answer.status_code}", content)
        elif "Traceback" in answer.text or 'File "' in answer.text:
            self._wrong("internals in the answer", content)
        elif answer.status_code == 200:
            self._check(json.loads(content), answer.json(), content)
        elif answer.status_code == 422 and not all(
            fault["loc"] and fault["msg"] for fault in answer.json()["detail"]
        ):
            self._wrong("a fault without its place", content)

    def send_raw(self, host: str, port: int, content: bytes) -> None:
        """Bytes that are not even a request: any answer or a closed connection will do, a hang will not."""
        with socket.create_connection((host, port), timeout=HANG_S) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                self._wrong("hang", content)
                return
            except ConnectionError:
                answer = b""
        if b" 500 " in answer.partition(b"\r\n")[0]:
            self._wrong("status 500", content)

    def _check(self, asked: dict[str, Any], answered: dict[str, Any], content: bytes) -> None:
        examples = asked.get("examples", [asked])
        predictions = answered["predictions"] if "examples" in asked else [answered]
        if len(examples) != len(predictions) or not all(map(span_is_honest, examples)):
            self._wrong("an answer to what cannot be asked", content)

    def _wrong(self, what: str, content: bytes) -> None:
        self.wrongs.append(f"{what}: {content[:300]!r}")
        print(self.wrongs[-1], file=sys.stderr)


def good_traffic(url: str) -> Callable[[], list[Outcome]]:
    """Start good callers in a thread; the function returned stops them and gives what came of it."""
    finished: list[Outcome] = []
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=lambda: finished.extend(
            loop.run_until_complete(closed_loop(url, rows, GOOD_CONNECTIONS, stop))
        )
    )
    thread.start()

    def end() -> list[Outcome]:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        return finished

    return end


def trial(url: str, port: int, requests: int) -> tuple[dict[str, Any], dict[str, bool]]:
    hostile = Trial(url)
    expected = [hostile.client.post("/relations", json=row).json()["relation"] for row in rows]
    end_good_traffic = good_traffic(url)
    try:
        for content, sent in by_hand():
            hostile.send(content, sent)
        for content in RAW:
            hostile.send_raw("127.0.0.1", port, content)

        @settings(
            max_examples=requests,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(body, headers)
        def storm(content: bytes, sent: dict[str, str]) -> None:
            hostile.send(content, sent)

        storm()
    finally:
        good = end_good_traffic()
    sent_in_all = sum(hostile.statuses.values())
    figures = {
        "hostile_requests": sent_in_all,
        "by_status": {str(status): count for status, count in sorted(hostile.statuses.items())},
        "slowest_s": round(hostile.slowest, 2),
        "wrong": hostile.wrongs[:10],
        "good_requests": len(good),
        "good_by_status": by_status(good),
    }
    promises = {
        "as many hostile requests as asked for": sent_in_all >= requests,
        "no 500, no hang, no wrong span": not hostile.wrongs,
        "every good request beside them is answered rightly": bool(good)
        and all(outcome.status == 200 and outcome.relation == expected[outcome.row] for outcome in good),
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.hostile", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args(argv)
    with running(arguments.bundle) as server:
        figures, promises = trial(server.url, server.port, arguments.requests)
    return conclude("hostile", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
