"""The requests of `loadtest.hostile`. Hypothesis makes most of them: broken rows, any JSON, any bytes, any
headers. The rest were written by hand."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from loadtest.sentences import make_long_rows

TYPES = ["PER", "ORG", "LOC", "DAT", "POH", "NOH"]

rows = make_long_rows(200)

# three people and two zero-width joiners: one sign on the screen
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"

NASTY_TEXT = [
    "", " ", "\u200b", "\u200d\u200d", "\x00", "\x07", "@", "# ^ 기타 ^", "</s>", "<mask>",
    "<s>[CLS]", "＜/s＞",
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


CHANGES = ["sentence", "subject_entity", "object_entity", "top_k", "inside", "insert", *["append"] * 3]


@st.composite
def broken_row(draw: st.DrawFn) -> Any:
    """A good row with a field replaced, or text inserted or appended."""
    row: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(rows))))
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.sampled_from(CHANGES))
        if field == "inside" and isinstance(row.get("object_entity"), dict):
            row["object_entity"][draw(st.sampled_from(["word", "start_idx", "end_idx", "type"]))] = draw(
                index | text | anything
            )
        elif field == "insert" and isinstance(row.get("sentence"), str):
            place = draw(st.integers(0, len(row["sentence"])))
            row["sentence"] = row["sentence"][:place] + draw(text) + row["sentence"][place:]
        elif field == "append" and isinstance(row.get("sentence"), str):
            row["sentence"] += draw(text)  # still a good row
        elif field == "top_k":
            row[field] = draw(anything)
        elif field in ("sentence", "subject_entity", "object_entity"):
            row[field] = draw(text) if field == "sentence" else draw(entity)
    return row


@st.composite
def sentence_with_entities(draw: st.DrawFn) -> Any:
    """A broken row with its entities in a list, to which others are added."""
    row = draw(broken_row())
    entities = [row.pop(field, None) for field in ("subject_entity", "object_entity")]
    row["entities"] = entities + draw(st.lists(entity, max_size=2))
    row["min_score"] = draw(st.sampled_from([0, 0.5]) | anything)
    return row


document = st.one_of(
    broken_row(),
    sentence_with_entities(),
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
        "X-Request-Timeout": st.sampled_from(
            ["1", "0.001", "-1", "nan", "1e400", "٣", "1_0", "soon", "0x10"]
        ),
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "gzip, gzip"]),
        "Accept": st.sampled_from(["text/html", "*/*;q=0", "nonsense"]),
    },
)  # fmt: skip


def example(sentence: str, subject: str, object_: str) -> bytes:
    """A body that names its entities by their words."""
    entities = {"subject_entity": {"word": subject}, "object_entity": {"word": object_}}
    return json.dumps({"sentence": sentence, **entities}).encode()


def by_hand() -> Iterator[tuple[bytes, dict[str, str]]]:
    """Requests of an attacker."""
    plain = {"Content-Type": "application/json"}
    row = json.dumps(rows[0]).encode()
    yield b"[" * 1_000_000, plain
    yield b'{"a":' * 100_000, plain
    yield b'{"sentence": ' + b"9" * 1_000_000 + b"}", plain
    # a repeated key: the last one counts, and its spans are wrong
    yield row[:-1] + b', "sentence": "\xea\xb0\x80 \xeb\x82\x98"}', plain
    yield b" " * (4 * 1024 * 1024 + 1), plain
    yield json.dumps({"examples": rows * 50}).encode(), plain  # 10,000 of them
    yield json.dumps({"examples": [rows[0]] * 256, "top_k": 30}).encode(), plain
    yield json.dumps({"examples": [rows[0]] * 257}).encode(), plain
    for filler in ("가", "가 ", "\u200b", FAMILY, "각", " ", "@", "</s>"):
        long = filler * (100_000 // len(filler))
        for sentence in (f"강하늘은 {long} 수원에 갔다.", f"강하늘은 수원에 갔다. {long}"):
            yield example(sentence, "강하늘", "수원"), plain
    yield example("가" * 100_000, "가", "가가"), plain
    yield row, {**plain, "Content-Encoding": "gzip"}
    yield row, {"Content-Type": "multipart/form-data; boundary=x"}


RAW = [
    b"GET /relations HTTP/9.9\r\n\r\n",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    b"POST /relations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    b"Content-Type: application/json\r\nX-Request-Timeout: 1\r\n\r\n{",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /relations HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET /%00%ff/../relations HTTP/1.1\r\nHost: x\r\n\r\n",
]


def raw(*lines: str, body: bytes = b"", first: str = "POST /relations HTTP/1.1") -> bytes:
    """The bytes of a request."""
    fixed = [first, "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode() + body


def with_span(change: Callable[[int, int], tuple[float, float]]) -> bytes:
    """A good row with other indices of its subject."""
    subject = rows[0]["subject_entity"]
    start, end = change(subject["start_idx"], subject["end_idx"])
    return json.dumps(rows[0] | {"subject_entity": subject | {"start_idx": start, "end_idx": end}}).encode()


GOOD = json.dumps(rows[0]).encode()
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
CLIENTS = [
    (raw(body=GOOD), 200),
    (raw(*H2C, body=GOOD), 200),
    (raw(body=GOOD, first="POST /relations/ HTTP/1.1"), 200),
    (raw(body=b"\xef\xbb\xbf" + GOOD), 200),
    (raw(body=with_span(lambda start, end: (float(start), float(end)))), 200),
    (raw(body=with_span(lambda start, end: (start, end + 1))), 422),
    (
        raw("Origin: http://x", "Access-Control-Request-Method: POST", first="OPTIONS /relations HTTP/1.1"),
        405,
    ),
    (raw("Content-Encoding: gzip", body=gzip.compress(GOOD)), 200),
    (raw("Content-Encoding: br", body=GOOD), 415),
    (raw("X-Long: " + "x" * 70_000, body=GOOD), 431),
    *((raw(first=f"HEAD {path} HTTP/1.1"), 200) for path in ("/health", "/ready", "/info", "/metrics")),
]
"""What real clients send before they close their sending side, and the status that they must get."""
