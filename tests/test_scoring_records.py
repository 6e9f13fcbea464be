"""A file falls into its rows wherever its pieces end, and a row that is broken costs no other one."""

import csv
import io
import json
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.files import csv_rows, json_rows
from models.files import records as record_limits
from models.files.csv_rows import read_csv
from models.files.errors import InputBroken, InvalidRows
from models.files.json_rows import read_json_array, read_json_lines
from models.files.records import Record

HEADER = b"sentence,subject_entity,object_entity\n"

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(st.characters(codec="utf-8"), max_size=6)
    | st.sampled_from(['"', "\\", "[", "}"]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=8,
)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def contents(records: Iterator[Record]) -> list[object]:
    return [(record.line, record.fault or record.content) for record in records]


@given(st.lists(documents, max_size=5), st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 30))
def test_an_array_falls_into_its_elements(
    array: list[object], indent: int | None, ascii_only: bool, size: int
) -> None:
    text = "\n\n" + json.dumps(array, indent=indent, ensure_ascii=ascii_only) + "\n"
    records = list(read_json_array(pieces(text.encode(), size)))
    assert [json.loads(bytes(record.content)) for record in records] == array  # type: ignore[arg-type]
    assert all(record.fault is None for record in records)
    place = 0
    for record in records:
        element = bytes(record.content).decode()  # type: ignore[arg-type]
        place = text.index(element, place)
        assert record.line == text.count("\n", 0, place) + 1
        place += len(element)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_elements_that_are_no_json_cost_only_themselves(size: int) -> None:
    text = b'[\n{"a": 1},\n{nonsense},\n,\n {"b": [1, 2}},\n"x\\"]", 7]'
    nothing = "there is no value between two commas"
    assert contents(read_json_array(pieces(text, size))) == [
        (2, b'{"a": 1}'), (3, b"{nonsense}"), (4, nothing), (5, b'{"b": [1, 2}}'), (6, b'"x\\"]"'), (6, b"7")
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_brace_too_many_does_not_end_the_array(size: int) -> None:
    text = b'[{"a": 1}},\n{"b": 2},\n{"c": 3}]'
    assert contents(read_json_array(pieces(text, size))) == [
        (1, b'{"a": 1}}'),
        (2, b'{"b": 2}'),
        (3, b'{"c": 3}'),
    ]


@pytest.mark.parametrize(
    ("text", "found", "reason", "line"),
    [
        (b'[{"a": 1},\n{"b": 2}', [(1, b'{"a": 1}'), (2, b'{"b": 2}')], "ends before", 2),
        (b'[{"a": 1},\n{"b": "2}]\n', [(1, b'{"a": 1}'), (2, b'{"b": "2}]\n')], "ends before", 2),
        (b"[", [], "ends before", 1),
        (b"[1]\n\n[2]", [(1, b"1")], "more after the end", 3),
        (b"[1]]", [(1, b"1")], "more after the end", 1),
    ],
)
def test_an_array_that_is_not_whole_says_where(
    text: bytes, found: list[object], reason: str, line: int
) -> None:
    for size in (1, 4, 100):
        records = read_json_array(pieces(text, size))
        assert contents(islice(records, len(found))) == found
        with pytest.raises(InputBroken, match=reason) as broken:
            next(records)
        assert broken.value.line == line


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_json_lines(size: int) -> None:
    assert contents(read_json_lines(pieces(b'{"a":1}\n\n  \r\n{}\n\xff\nlast', size))) == [
        (1, b'{"a":1}'), (4, b"{}"), (5, b"\xff"), (6, b"last")
    ]  # fmt: skip


cells = st.text(st.sampled_from("가\",' \n{}:x"), max_size=8)


@given(
    st.lists(st.tuples(cells, cells, cells), max_size=6), st.sampled_from(["\n", "\r\n"]), st.integers(1, 30)
)
def test_csv_falls_into_its_rows(rows: list[tuple[str, str, str]], ending: str, size: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending).writerows(
        [("sentence", "subject_entity", "object_entity"), *rows]
    )
    records = list(read_csv(pieces(text.getvalue().encode(), size), "rows.csv"))
    assert [tuple(dict(record.content).values()) for record in records] == rows  # type: ignore[call-overload]
    assert all(record.fault is None for record in records)


def test_an_open_quote_costs_its_own_line_only() -> None:
    data = HEADER + b'a,b,c\n"open,b,c\nd,e,f\n"g","h","i"\n"x"y,b,c\nj,k,l\n"end,b'
    records = list(read_csv(iter([data]), "rows.csv"))
    assert [record.line for record in records] == [2, 3, 4, 5, 6, 7, 8]
    good = [list(dict(record.content).values()) for record in records if not record.fault]  # type: ignore[call-overload]
    assert good == [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"], ["j", "k", "l"]]
    assert [record.line for record in records if record.fault] == [3, 6, 8]


def test_a_row_that_never_ends_costs_no_more_than_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_LINES", 5)
    data = HEADER + b'",x","\n' * 20 + b"a,b,c\n"
    records = list(read_csv(iter([data]), "rows.csv"))
    assert [record.line for record in records] == list(range(2, 23))
    assert records[-1].fault is None


def test_cells_that_are_missing_or_too_many_and_text_that_is_not_utf8() -> None:
    records = list(read_csv(iter([HEADER + b"a,b\na,b,c,d\n\n\xb0\xa1,b,c\na,b,c\n"]), "rows.csv"))
    assert [(record.line, (record.fault or "")[:12]) for record in records] == [
        (2, "the row has "),
        (3, "the row has "),
        (5, "not text in "),
        (6, ""),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"a,b,c\n",
        b"sentence,subject_entity\n",
        b"sentence,sentence,subject_entity,object_entity\n",
        b'"sentence\n',
        b"\xff,a\n",
    ],
)
def test_csv_without_a_header_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRows, match="the first row is not the header"):
        list(read_csv(iter([data]), "rows.csv"))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_that_are_too_long_are_not_kept(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (record_limits, json_rows, csv_rows):
        monkeypatch.setattr(module, "MAX_ROW_BYTES", 50)
    long = b"x" * 60
    lines = list(read_json_lines(pieces(b"a\n" + long + b"\nb\n" + long, size)))
    assert [(record.line, record.fault is None) for record in lines] == [
        (1, True),
        (2, False),
        (3, True),
        (4, False),
    ]
    array = list(read_json_array(pieces(b'[1,\n"' + long + b'[",\n2]', size)))
    assert [(record.line, record.fault is None) for record in array] == [(1, True), (2, False), (3, True)]
    rows = list(
        read_csv(pieces(HEADER + b"a,b,c\n" + long + b',b,c\n"a\n' + long + b"\nd,e,f\n", size), "rows.csv")
    )
    assert [(record.line, record.fault is None) for record in rows] == [
        (2, True),
        (3, False),
        (4, False),
        (5, False),
        (6, True),
    ]
    assert all(len(record.content) <= 50 for record in [*lines, *array, *rows])
