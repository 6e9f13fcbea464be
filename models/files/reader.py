"""Opens a file of rows: finds what it is, and gives its rows as records.

1. A folder is a data set that `save_to_disk` of `datasets` has written, or has parts, as Spark writes them.
2. The first bytes tell Parquet, Arrow, and kinds of files that are refused.
3. A text is turned into UTF-8 (`encodings.py`).
4. Text that begins with `{` or `[` is JSON. Other text has the form that the name tells, or is CSV.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from models.files import encodings
from models.files.csv_rows import Dialect, read_csv
from models.files.errors import InputBroken, InvalidRows
from models.files.forms import STANDARD, InputForm, input_form
from models.files.json_rows import read_json_array, read_json_lines, shape
from models.files.parts import parts
from models.files.records import Input, Record
from models.files.sources import HEAD_BYTES, Source, open_source, peek
from models.files.tables import ARROW_FILE, ARROW_STREAM, PARQUET, is_saved_dataset, open_table

TABLES: Final[dict[bytes, InputForm]] = {PARQUET: "parquet", ARROW_FILE: "arrow", ARROW_STREAM: "arrow"}
REFUSED: Final = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive; save the sheet as CSV UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls); save the sheet as CSV UTF-8"),
    (b"%PDF", "a PDF document; name a file of rows"),
    (b"BZh", "compressed with bzip2; unpack it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ\0", "compressed with xz; unpack it, or compress it with gzip or zstd"),
    (b"\x93NUMPY", "a NumPy array; write the rows as JSON lines"),
    (b"SQLite format 3\0", "an SQLite database; export the rows as CSV"),
    (b"ORC", "an ORC file; write the rows as JSON lines or Parquet"),
    (b"Obj\x01", "an Avro file; write the rows as JSON lines or Parquet"),
    (b"\x89HDF", "an HDF5 file; write the rows as JSON lines or Parquet"),
    *((b"\x80" + bytes([protocol]), "a pickle, which can run code; write the rows as JSON lines or Parquet")
      for protocol in range(2, 6)),
)  # fmt: skip
"""How files begin that have no rows to read here, and what to say."""


def open_input(name: str, form: InputForm | None = None, encoding: str | None = None) -> Input:
    """Open a file of rows.

    Args:
        name: a path, or `-` for standard input.
        form: by default the one that the content or the name tells.
        encoding: of its text; by default the one that its first bytes tell.

    Raises:
        InvalidRows: it cannot be read, or it has another form.
    """
    if name != STANDARD and Path(name).is_dir():
        if is_saved_dataset(name):
            return open_table(Path(name), "arrow")
        return _open_parts(parts(Path(name)), form, encoding)
    source = open_source(name)
    try:
        table = next((table for magic, table in TABLES.items() if source.head.startswith(magic)), None)
        if table or form in TABLES.values() or (not form and input_form(name) in TABLES.values()):
            return _open_table(source, table or form or input_form(name) or "parquet")
        return _open_text(source, form, encoding)
    except BaseException:
        source.close()
        raise


def _open_parts(paths: Sequence[Path], form: InputForm | None, encoding: str | None) -> Input:
    """The rows of all parts, one part after the other. A row has no line, because each part has a line 1."""
    place, opened = 0, open_input(str(paths[0]), form, encoding)
    found = opened.form

    def records() -> Iterator[Record]:
        nonlocal place, opened
        try:
            for place, path in enumerate(paths):
                if place:
                    opened.close()
                    opened = open_input(str(path), form, encoding)
                if opened.form != found:
                    raise InputBroken(f"it is {opened.form}, and the parts before it are {found}")
                for record in opened.records:
                    yield replace(record, line=None)
        except InvalidRows as error:  # names the part
            if not place:
                raise  # the folder is refused, as a single file is
            raise InputBroken(str(error)) from None
        except InputBroken as error:
            raise InputBroken(f"{paths[place].name}: {error}") from None

    return Input(
        records(),
        found,
        opened.encoding,
        lambda: (place + (opened.fraction() or 0)) / len(paths),
        lambda: opened.close(),
    )


def _open_table(source: Source, form: InputForm) -> Input:
    name = source.name
    source.close()
    if source.packed:
        raise InvalidRows(f"{name}: this is a compressed {form} file; unpack it first")
    if name == STANDARD or not Path(name).is_file():
        called = "standard input" if name == STANDARD else f"{name}, which is no regular file"
        raise InvalidRows(f"Parquet and Arrow cannot be read from {called}: write a file first")
    return open_table(Path(name), form)


def _open_text(source: Source, form: InputForm | None, encoding: str | None) -> Input:
    name = source.name
    for magic, found in REFUSED:
        if source.head.startswith(magic):
            raise InvalidRows(f"{name}: this is {found}")
    encoding = encodings.choose(source.head, name, encoding)
    begins, chunks = peek(encodings.as_utf8(source.chunks, encoding), HEAD_BYTES)
    head = begins.decode("utf-8", "surrogateescape")
    text = head.lstrip()
    if form is None:
        form = "json" if text[:1] in ("{", "[") else input_form(name) or ("csv" if text else "jsonl")
    if form == "json":
        if text and text[0] not in "{[":
            raise InvalidRows(f"{name}: neither a JSON array nor JSON lines; --from names another form")
        arranged, place = shape(text, name)
        form = "json" if arranged == "array" else "jsonl"
        if place:
            place += len(head) - len(text)
    if form == "csv":
        records = read_csv(chunks, name, Dialect.of(head))
    elif form == "json":
        records = read_json_array(chunks, len(head[:place].encode("utf-8", "surrogateescape")))
    else:
        records = read_json_lines(chunks)
    return Input(records, form, encoding, source.fraction, source.close)
