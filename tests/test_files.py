"""Files as users have them give the same rows, or are refused in one line that says what to do."""

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_files import as_jsonl, as_parquet, zstd

from models.files.errors import InputBroken
from models.files.reader import open_input
from models.files.rows import FileRow, Reject, read_row
from models.labels import RELATIONS
from models.rows import InvalidRows, read_labelled, sha256

FileOf = Callable[[list[dict[str, Any]]], bytes]


def row(number: int, sentence: str, subject: tuple[str, str], object_: tuple[str, str], label: str) -> Any:
    entities = [
        {
            "word": word,
            "start_idx": (start := sentence.index(word)),
            "end_idx": start + len(word) - 1,
            "type": kind,
        }
        for word, kind in (subject, object_)
    ]
    names = {"guid": f"own-{number}", "sentence": sentence}
    return names | dict(zip(("subject_entity", "object_entity"), entities, strict=True)) | {"label": label}


ROWS = [
    row(
        0,
        "화가 도나래는 1961년 여름 강릉에서 태어났다.",
        ("도나래", "PER"),
        ("강릉", "LOC"),
        "per:place_of_birth",
    ),
    row(1, '"한겨울상사"의 대표, 노을빛은 웃었다.', ("한겨울상사", "ORG"), ("노을빛", "PER"), RELATIONS[10]),
    row(2, "나무 \\ 시인 조가람은 바다를 썼다.", ("조가람", "PER"), ("바다", "POH"), "per:product"),
]
RIGHT = [
    ("도나래", "PER", 3, "강릉", "LOC", 17, "per:place_of_birth"),
    ("한겨울상사", "ORG", 1, "노을빛", "PER", 13, "org:top_members/employees"),
    ("조가람", "PER", 8, "바다", "POH", 13, "per:product"),
]
UNTYPED = [(*found[:1], None, *found[2:]) for found in RIGHT]


def given_by(file_row: FileRow) -> tuple[object, ...]:
    subject, object_ = file_row.example.subject_entity, file_row.example.object_entity
    label = None if file_row.label.id is None else RELATIONS[file_row.label.id]
    ours, theirs = ((entity.word, entity.type, entity.start_idx) for entity in (subject, object_))
    return *ours, *theirs, label


def read(path: Path, encoding: str | None = None) -> list[FileRow | Reject]:
    source = open_input(str(path), encoding=encoding)
    try:
        return [read_row(record, number) for number, record in enumerate(source.records, start=1)]
    finally:
        source.close()


def as_table(
    rows: list[dict[str, Any]],
    separator: str = ",",
    entity: Callable[[dict[str, Any]], str] = str,
    quoting: Any = csv.QUOTE_MINIMAL,
    ending: str = "\n",
    spark: bool = False,
) -> str:
    """CSV as pandas writes it, or Spark."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=ending)
    cells = [["id", "sentence", "subject_entity", "object_entity", "label", "source"]]
    for number, each in enumerate(rows):
        entities = [entity(each[key]) for key in ("subject_entity", "object_entity")]
        cells.append([str(number), each["sentence"], *entities, str(each["label"]), "own"])
    if not spark:
        writer.writerows(cells)
        return text.getvalue()
    return "".join(separator.join(map(_spark_cell, line)) + ending for line in cells)


def _spark_cell(cell: str) -> str:
    if not any(sign in cell for sign in '",;\t\n'):
        return cell
    return '"' + cell.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_json_cell(entity: dict[str, Any]) -> str:
    return json.dumps(entity, ensure_ascii=False)


def as_numpy(entity: dict[str, Any]) -> str:
    fields = [
        f"'{key}': np.int64({value})" if isinstance(value, int) else f"{key!r}: {value!r}"
        for key, value in entity.items()
    ]
    return "{" + ", ".join(fields) + "}"


def changed(**changes: Any) -> list[dict[str, Any]]:
    """The rows with other values; a callable gets the old value."""
    return [
        each | {key: value(each.get(key)) if callable(value) else value for key, value in changes.items()}
        for each in ROWS
    ]


def floats(entity: dict[str, Any]) -> dict[str, Any]:
    return entity | {key: float(entity[key]) for key in ("start_idx", "end_idx")}


def wrapped(rows: list[dict[str, Any]], indent: int | None = None, **more: Any) -> bytes:
    return json.dumps({"version": "1", "data": rows} | more, ensure_ascii=False, indent=indent).encode()


def dumped(rows: list[dict[str, Any]], **options: Any) -> bytes:
    return json.dumps(rows, ensure_ascii=False, **options).encode()


LINES = as_jsonl(ROWS)  # type: ignore[arg-type]
NUMBERS = [RELATIONS.index(each["label"]) for each in ROWS]
numbered = [each | {"label": number} for each, number in zip(ROWS, NUMBERS, strict=True)]
text_of_lines = LINES.decode()

FILES: dict[str, tuple[bytes, str]] = {
    "mark-and-blank-line.jsonl": (b"\xef\xbb\xbf" + LINES + b"\n", "utf-8"),
    "blank-lines.jsonl": (b"\n  \n" + LINES.replace(b"\n", b"\r\n\r\n"), "utf-8"),
    "mark.json": (b"\xef\xbb\xbf\n" + dumped(ROWS), "utf-8"),
    "mark-and-blank-line.csv": (b"\xef\xbb\xbf\n" + as_table(ROWS).encode() + b"\n\n", "utf-8"),
    "excel.csv": (as_table(ROWS, ending="\r\n").encode("cp949"), "cp949"),
    "cp949.jsonl": (LINES.decode().encode("cp949"), "cp949"),
    "cp949.json": (dumped(ROWS, indent=2).decode().encode("cp949"), "cp949"),
    "excel-unicode.txt": (b"\xff\xfe" + as_table(ROWS, "\t").encode("utf-16-le"), "utf-16-le"),
    "utf-16-no-mark.csv": (as_table(ROWS).encode("utf-16-be"), "utf-16-be"),
    "utf-16.json": (dumped(ROWS).decode().encode("utf-16-le"), "utf-16-le"),
    "utf-32.jsonl": (LINES.decode().encode("utf-32"), "utf-32-le"),
    "tab.tsv": (as_table(ROWS, "\t").encode(), "utf-8"),
    "tab-under-another-name.csv": (as_table(ROWS, "\t", quoting=csv.QUOTE_ALL).encode(), "utf-8"),
    "semicolon.csv": (as_table(ROWS, ";").encode(), "utf-8"),
    "excel-separator.csv": (b"sep=;\r\n" + as_table(ROWS, ";", ending="\r\n").encode("cp949"), "cp949"),
    "numpy2.csv": (as_table(ROWS, entity=as_numpy).encode(), "utf-8"),
    "numpy2-strings.csv": (
        as_table(
            ROWS,
            entity=lambda entity: (
                as_numpy(entity).replace(": '", ": np.str_('").replace("',", "'),").replace("'}", "')}")
            ),
        ).encode(),
        "utf-8",
    ),
    "numpy-long.csv": (
        as_table(ROWS, entity=lambda entity: as_numpy(entity).replace("np.", "numpy.")).encode(),
        "utf-8",
    ),
    "json-cells.csv": (as_table(ROWS, entity=as_json_cell).encode(), "utf-8"),
    "text-entities.jsonl": (as_jsonl(changed(subject_entity=str, object_entity=as_json_cell)), "utf-8"),
    "spark.csv": (as_table(ROWS, entity=as_json_cell, spark=True).encode(), "utf-8"),
    "spark-tab.csv": (as_table(ROWS, "\t", as_json_cell, spark=True).encode(), "utf-8"),
    "spark-python.csv": (as_table(ROWS, spark=True).encode(), "utf-8"),
    "wrapped.json": (wrapped(ROWS, indent=1), "utf-8"),
    "wrapped-on-one-line.json": (wrapped(ROWS, licence="own", pages=[1, 2]), "utf-8"),
    "wrapped.jsonl": (json.dumps({'a"b': {"c": [1]}, "rows": ROWS}).encode(), "utf-8"),
    "pandas-table.json": (json.dumps({"schema": {"fields": []}, "data": ROWS}, indent=4).encode(), "utf-8"),
    "array-under-another-name.jsonl": (dumped(ROWS, indent=1), "utf-8"),
    "json-under-another-name.csv": (LINES, "utf-8"),
    "nan-in-unknown-key.jsonl": (as_jsonl(changed(source=float("nan"))), "utf-8"),
    "infinity-in-unknown-key.json": (dumped(changed(score=float("inf"))), "utf-8"),
    "nan-guid.jsonl": (as_jsonl(changed(guid=float("nan"), id=float("nan"))), "utf-8"),
    "float-index.jsonl": (as_jsonl(changed(subject_entity=floats, object_entity=floats)), "utf-8"),
    "float-index.csv": (as_table(changed(subject_entity=floats, object_entity=floats)).encode(), "utf-8"),
    "float-id.jsonl": (as_jsonl(changed(id=3.0)), "utf-8"),
    "label-numbers.jsonl": (as_jsonl(numbered), "utf-8"),
    "label-numbers.csv": (as_table(numbered).encode(), "utf-8"),
    "label-floats.json": (dumped([each | {"label": float(each["label"])} for each in numbered]), "utf-8"),
    "label-floats.csv": (
        as_table([each | {"label": float(each["label"])} for each in numbered]).encode(),
        "utf-8",
    ),
    "rows.jsonl.gz": (gzip.compress(LINES), "utf-8"),
    "cp949-by-content.csv": (gzip.compress(as_table(ROWS).encode("cp949")), "cp949"),
    "wrapped.json.gz": (gzip.compress(wrapped(ROWS)), "utf-8"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_same_rows_gives_the_same_answers(name: str, tmp_path: Path) -> None:
    data, encoding = FILES[name]
    (tmp_path / name).write_bytes(data)
    source = open_input(str(tmp_path / name))
    assert source.encoding == encoding
    source.close()
    rows = read(tmp_path / name)
    assert [given_by(each) if isinstance(each, FileRow) else str(each) for each in rows] == RIGHT
    labelled = read_labelled(tmp_path / name)
    assert [(each.example.sentence, RELATIONS[each.label_id]) for each in labelled] == [
        (each["sentence"], each["label"]) for each in ROWS
    ]


def untyped(shown: str) -> Callable[[dict[str, Any]], str]:
    def entity(fields: dict[str, Any]) -> str:
        return (
            str(fields | {"type": ...}).replace("Ellipsis", shown) if fields["type"] != "x" else str(fields)
        )

    return entity


@pytest.mark.parametrize(
    "shown", ["nan", "np.nan", "None", "<NA>", "NaN", "null", "'nan'", "''", "float64(nan)", "pd.NA"]
)
def test_a_missing_type_is_unknown(shown: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(as_table(ROWS, entity=untyped(shown)), encoding="utf-8")
    rows = read(tmp_path / "rows.csv")
    assert [given_by(each)[:4:3] if isinstance(each, FileRow) else str(each) for each in rows] == [
        found[:4:3] for found in RIGHT
    ]
    assert all(isinstance(each, FileRow) and each.example.subject_entity.type is None for each in rows)


def test_nan_as_the_type_in_json_is_unknown(tmp_path: Path) -> None:
    rows = changed(subject_entity=lambda entity: entity | {"type": float("nan")})
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(rows))
    assert [given_by(each) for each in read(tmp_path / "rows.jsonl") if isinstance(each, FileRow)] == UNTYPED


def parquet_file(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def saved_dataset(folder: Path, rows: list[dict[str, Any]], names: list[str] | None = None) -> Path:
    """As `save_to_disk` of `datasets` writes it, in two files."""
    pyarrow, ipc = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.ipc")
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    files = [f"data-{number:05d}-of-00002.arrow" for number in range(2)]
    for file, part in zip(files, (table.slice(0, 2), table.slice(2)), strict=True):
        with ipc.new_stream(str(folder / file), table.schema) as writer:
            writer.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file} for file in files]}))
    return folder


def test_parquet_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(numbered).assign(id=[0.0, float("nan"), 2.0]).astype({"sentence": "category"})
    frame.loc[1, "label"] = float("nan")
    frame.set_index(pandas.Index([7, 8, 9])).to_parquet(tmp_path / "rows.parquet")
    frame.assign(subject_entity=frame.subject_entity.map(str)).to_parquet(tmp_path / "text.parquet")
    right = [RIGHT[0], (*RIGHT[1][:-1], None), RIGHT[2]]
    for name in ("rows.parquet", "text.parquet"):
        rows = [each for each in read(tmp_path / name) if isinstance(each, FileRow)]
        assert [given_by(each) for each in rows] == right
        assert [each.id for each in rows] == [0, None, 2]


def test_arrow_files_and_saved_datasets(tmp_path: Path) -> None:
    pyarrow, feather = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    feather.write_feather(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.feather")
    backwards = list(reversed(RELATIONS))
    reordered = [each | {"label": backwards.index(each["label"])} for each in ROWS]
    folders = [
        saved_dataset(tmp_path / "named", ROWS),
        saved_dataset(tmp_path / "numbered", numbered),
        saved_dataset(tmp_path / "splits" / "train", reordered, backwards),
    ]
    for path in [*folders, tmp_path / "rows.feather", folders[0] / "data-00000-of-00002.arrow"]:
        rows = [given_by(each) for each in read(path) if isinstance(each, FileRow)]
        assert rows == (RIGHT[:2] if path.suffix == ".arrow" else RIGHT), path
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(InvalidRows, match=r"several splits; name one: .*train"):
        read(tmp_path / "splits")


SPARK: dict[str, FileOf] = {
    "csv": lambda rows: as_table(rows, entity=as_json_cell, spark=True).encode(),
    "csv.gz": lambda rows: gzip.compress(as_table(rows, entity=as_json_cell, spark=True).encode()),
    "json": as_jsonl,
    "snappy.parquet": as_parquet,
    "": as_jsonl,
}


def spark_folder(folder: Path, ending: str) -> Path:
    """Rows as Spark writes them, in two parts that have rows and one that has none."""
    folder.mkdir()
    for number, rows in enumerate((ROWS[:2], [], ROWS[2:])):
        name = f"part-{number:05d}-5c2e-c000" + (f".{ending}" if ending else "")
        (folder / name).write_bytes(SPARK[ending](rows) if rows else b"")
        (folder / f".{name}.crc").write_bytes(b"crc\0")
    for name in ("_SUCCESS", "._SUCCESS.crc"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("ending", SPARK)
def test_a_folder_of_parts_is_read_like_a_file(ending: str, tmp_path: Path) -> None:
    folder = spark_folder(tmp_path / "rows", ending)
    rows = read(folder)
    assert [given_by(each) if isinstance(each, FileRow) else str(each) for each in rows] == RIGHT
    assert [each.place for each in rows if isinstance(each, FileRow)] == ["row 1", "row 2", "row 3"]
    assert len(read_labelled(folder)) == len(ROWS)
    before = sha256(folder)
    (folder / "part-00003-5c2e-c000.json").write_bytes(as_jsonl(ROWS))
    if ending == "json":
        assert sha256(folder) != before
        assert len(read(folder)) == 2 * len(ROWS)
    else:
        with pytest.raises(InvalidRows, match="have different forms; name one file"):
            read(folder)


def test_a_part_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder = spark_folder(tmp_path / "rows", "csv.gz")
    part = folder / "part-00002-5c2e-c000.csv.gz"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InvalidRows, match=f"{folder}.*{part.name}"):
        read_labelled(folder)


@pytest.mark.parametrize("wrong", [0, 2])
def test_a_part_without_a_header_is_named_once(wrong: int, tmp_path: Path) -> None:
    folder = spark_folder(tmp_path / "rows", "csv")
    part = folder / f"part-{wrong:05d}-5c2e-c000.csv"
    part.write_bytes(part.read_bytes().partition(b"\n")[2])
    with pytest.raises(InvalidRows if wrong == 0 else InputBroken, match="is not the header") as refused:
        read(folder)
    assert str(refused.value).count(part.name) == 1


def test_a_folder_with_a_train_and_a_validation_file_is_no_table_in_parts(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(as_jsonl(ROWS))
    (tmp_path / "validation.jsonl").write_bytes(as_jsonl(ROWS))
    with pytest.raises(InvalidRows, match=r"train\.jsonl is not named as a part"):
        read(tmp_path)


def test_folders_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRows, match="this folder has no rows"):
        read(tmp_path)
    spark_folder(tmp_path / "label=x", "csv")
    with pytest.raises(InvalidRows, match=r"this folder has folders; name one of them: .*label=x"):
        read(tmp_path)


REFUSED: dict[str, tuple[bytes, str]] = {
    "book.xlsx": (b"PK\x03\x04\x14\0", "Excel workbook"),
    "book.csv": (b"PK\x03\x04\x14\0", "save the sheet as CSV"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook"),
    "rows.pkl": (b"\x80\x04\x95abc", "a pickle"),
    "rows.pickle": (b"\x80\x05\x95abc", "a pickle"),
    "labels.npy": (b"\x93NUMPY\1\0", "NumPy"),
    "columns.json": (json.dumps({"sentence": {"0": "가"}, "label": {"0": "x"}}).encode(), "by columns"),
    "columns-of-lists.json": (
        json.dumps({"sentence": ["가"], "label": ["x"]}, indent=1).encode(),
        "by columns",
    ),
    "by-index.json": (json.dumps({"0": ROWS[0], "1": ROWS[1]}).encode(), "orient='records'"),
    "guid-first.json": (json.dumps({"guid": {"0": "a"}, "sentence": {"0": "가"}}).encode(), "by columns"),
    "split.json": (b'{"columns":["sentence"],"index":[0],"data":[["x"]]}', "are lists, not objects"),
    "one-row.json": (json.dumps(ROWS[0], indent=2).encode(), "one row on each line"),
    "rows.bz2": (b"BZh91AY", "bzip2"),
    "rows.xz": (b"\xfd7zXZ\0\0", "xz"),
    "part-0.zstd.orc": (b"ORC\x11\0\0\x0a\x06", "an ORC file"),
    "rows.avro": (b"Obj\x01\x04\x16avro.schema", "an Avro file"),
    "latin.csv": ("école,café,été,à,ç,ñ,ü,é".encode("latin-1"), "neither UTF-8 nor UTF-16 nor cp949"),
    "binary.jsonl": (bytes(range(128, 256)) * 9, "neither UTF-8"),
    "packed.parquet": (gzip.compress(b"PAR1 and more"), "unpack it first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    data, reason = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidRows) as refused:
        read_labelled(tmp_path / name)
    assert reason in str(refused.value)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (changed(subject_entity=lambda entity: entity | {"start_idx": 3.5}), "a whole number is required"),
        (changed(subject_entity=lambda entity: entity | {"end_idx": float("nan")}), "give both or neither"),
        (changed(id=3.5), "id: a string"),
        (changed(sentence=float("nan")), "sentence: a string is required"),
        (changed(subject_entity=lambda _: "{'word': x}"), "neither a Python literal nor JSON"),
        (changed(subject_entity=lambda _: "np.fromfile('x')"), "neither a Python literal nor JSON"),
    ],
)
def test_a_bad_row_names_file_line_and_what_to_do(
    rows: list[dict[str, Any]], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(LINES + b"\n" + as_jsonl(rows))
    with pytest.raises(InvalidRows) as refused:
        read_labelled(tmp_path / "rows.jsonl")
    assert str(refused.value).startswith(f"{tmp_path / 'rows.jsonl'}, line 5: ")
    assert reason in str(refused.value)


def test_encoding_overrules(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(ROWS[:1]).decode().encode("johab"))
    (each,) = read(tmp_path / "rows.jsonl", "johab")
    assert isinstance(each, FileRow)
    assert each.example.sentence == ROWS[0]["sentence"]
    (tmp_path / "rows.jsonl").write_bytes(LINES.decode().encode("cp949"))
    with pytest.raises(InvalidRows, match="this is not utf-8 text"):
        read(tmp_path / "rows.jsonl", "utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_a_damaged_row_does_not_change_the_encoding_of_the_others(encoding: str, tmp_path: Path) -> None:
    first, second, third = text_of_lines.encode(encoding).splitlines()
    damaged = second.replace("노을".encode(encoding), b"\xff\xff")
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join([first, damaged, third]))
    one, two, three = read(tmp_path / "rows.jsonl")
    assert isinstance(two, Reject)
    assert "not text in the file's encoding" in two.reason
    assert [given_by(each) for each in (one, three) if isinstance(each, FileRow)] == [RIGHT[0], RIGHT[2]]


def test_rows_under_two_keys_are_not_lost_silently(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(wrapped(ROWS, test=ROWS))
    with pytest.raises(InputBroken, match="more rows under 'test'"):
        read(tmp_path / "rows.json")


SIGNS = [*"가나다라마바사아자차카타파하 -1{]\t", ",", ";", '"', "'", "\\", "\\n", "\\\\", '\\"']


def texts(shortest: int, longest: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(SIGNS), min_size=shortest, max_size=longest).map("".join)


SEPARATORS = st.sampled_from([",", ";", "\t"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "cp949", "utf-16", "utf-16-le", "utf-16-be"])
NOTATIONS = st.sampled_from([str, as_json_cell, as_numpy])
PACKINGS = st.sampled_from([bytes, gzip.compress, zstd])
WORDS = texts(1, 6).map(lambda text: f"가{text}힣")


@st.composite
def some_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for number in range(draw(st.integers(1, 4))):
        subject, object_ = f"{number}{draw(WORDS)}", draw(WORDS)
        before, between = draw(texts(0, 5)), draw(texts(0, 9))
        sentence = f"날씨 {before}{subject} 은 {between}{object_} 한글이다."
        starts = (3 + len(before), 3 + len(before) + len(subject) + 3 + len(between))
        entities = [
            {
                "word": word,
                "start_idx": start,
                "end_idx": start + len(word) - 1,
                "type": draw(st.sampled_from(["PER", "ORG"])),
            }
            for word, start in zip((subject, object_), starts, strict=True)
        ]
        label = draw(st.sampled_from(RELATIONS))
        rows.append({"guid": f"g{number}", "sentence": sentence, "subject_entity": entities[0]})
        rows[-1] |= {"object_entity": entities[1], "label": label, "source": "own"}
    return rows


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes, list[dict[str, Any]], bool]:
    """A name, the bytes, the rows in them, and whether the bytes are damaged."""
    rows = draw(some_rows())
    form = draw(st.sampled_from(["jsonl", "json", "wrapped", "csv", "spark"]))
    if form in ("csv", "spark"):
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        separator, notation, ending = draw(SEPARATORS), draw(NOTATIONS), draw(st.sampled_from(["\n", "\r\n"]))
        text = as_table(
            rows, separator, as_json_cell if form == "spark" else notation, quoting, ending, form == "spark"
        )
    elif form == "jsonl":
        text = as_jsonl(rows).decode()  # type: ignore[arg-type]
    else:
        document = rows if form == "json" else {"version": "1", "data": rows, "end": None}
        text = json.dumps(document, ensure_ascii=False, indent=draw(st.sampled_from([None, 1])))
    data = text.encode(draw(ENCODINGS))
    packing, damaged = draw(PACKINGS), draw(st.booleans())
    if damaged and draw(st.booleans()):
        sign = draw(
            st.sampled_from([b"\0", b"\xff", b"\r", b"\n", b'"', b"'", b",", b"\\", b"[", b"]", b"{", b"}"])
        )
        place = draw(st.integers(0, len(data)))
        data = packing(data[:place] + sign + data[place:])
    else:
        data = packing(data)
        data = data[: draw(st.integers(0, len(data)))] if damaged else data
    ending = {"wrapped": "json", "spark": "csv"}.get(form, form)
    name = draw(
        st.sampled_from([f"rows.{ending}", "rows.txt" if ending in ("csv", "json") else "rows.jsonl"])
    )
    return name, data, rows, damaged


def check_file(file: tuple[str, bytes, list[dict[str, Any]], bool]) -> None:
    """Right answers, rejects with a reason, or one plain refusal: never a wrong answer."""
    name, data, rows, damaged = file
    right = {(each["subject_entity"]["word"], each["object_entity"]["word"]): each for each in rows}
    found: list[FileRow | Reject] = []
    refusal = ""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        try:
            source = open_input(str(Path(folder) / name))
            try:
                found += (read_row(record, number) for number, record in enumerate(source.records, start=1))
            finally:
                source.close()
        except (InvalidRows, InputBroken) as error:
            refusal = str(error)
    assert not refusal or (damaged and "\n" not in refusal)
    for each in found:
        if isinstance(each, Reject):
            assert damaged, each
            assert each.reason
            continue
        subject, type_, start, object_, _, _, label = given_by(each)
        wanted = right[str(subject), str(object_)]
        assert type_ in (wanted["subject_entity"]["type"], None)
        assert label in (wanted["label"], None)
        assert damaged or (each.example.sentence, start) == (
            wanted["sentence"],
            wanted["subject_entity"]["start_idx"],
        )
    assert damaged or len(found) == len(rows)


@given(files())
@settings(max_examples=60, deadline=None)
def test_generated_files_never_give_a_wrong_answer(
    file: tuple[str, bytes, list[dict[str, Any]], bool],
) -> None:
    check_file(file)


@pytest.mark.slow
@given(files())
@settings(max_examples=5000, deadline=None)
def test_5000_generated_files_never_give_a_wrong_answer(
    file: tuple[str, bytes, list[dict[str, Any]], bool],
) -> None:
    check_file(file)
