"""Which form an input has, and its rows as records, whatever the form."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from scoring.errors import Refused
from scoring.parquet import ParquetRows
from scoring.records import Record, read_csv, read_json_array, read_json_lines
from scoring.sources import STANDARD, Source, can_be_read_again, open_source

InputForm = Literal["json", "jsonl", "csv", "parquet"]
INPUT_FORMS: Final[tuple[InputForm, ...]] = get_args(InputForm)

COMPRESSED: Final = (".gz", ".zst")
PARQUET: Final = b"PAR1"


class Input(Protocol):
    """Rows that are read once from first to last; close it by leaving its context."""

    def __enter__(self) -> "Input": ...
    def __exit__(self, *_: object) -> None: ...
    def records(self) -> Iterator[Record]: ...
    def fraction(self) -> float | None: ...


class TextRows:
    """Rows of a JSON, JSONL or CSV input, plain or compressed."""

    def __init__(self, source: Source, form: InputForm) -> None:
        self._source = source
        self._form = form

    def __enter__(self) -> "TextRows":
        return self

    def __exit__(self, *error: object) -> None:
        self._source.__exit__(*error)

    def fraction(self) -> float | None:
        """The share of the file that has been read, or `None` where its size is not known."""
        return self._source.fraction()

    def records(self) -> Iterator[Record]:
        """All rows. Raises as the readers of `scoring.records`."""
        if self._form == "csv":
            return read_csv(self._source.chunks, self._source.name)
        return (read_json_array if self._form == "json" else read_json_lines)(self._source.chunks)


def open_input(name: str, form: InputForm | None = None) -> Input:
    """Open an input.

    Args:
        name: a path, or `-` for standard input.
        form: what it holds; by default what its name ends in says, and where that says nothing, how it
            begins.

    Raises:
        Refused: it cannot be read, or is not of the form asked for.
    """
    source = open_source(name)
    try:
        begins = source.head.lstrip()[:4]
        form = form or _form_by_name(name)
        if begins == PARQUET or form == "parquet":
            source.__exit__()
            if not can_be_read_again(name):
                called = "standard input" if name == STANDARD else f"{name}, which is no regular file"
                raise Refused(f"Parquet cannot be read from {called}: its end must be read first")
            return ParquetRows(Path(name))
        if form is None:
            form = "json" if begins[:1] == b"[" else "csv" if begins and begins[:1] != b"{" else "jsonl"
        if form == "json" and begins[:1] == b"{":
            form = "jsonl"  # many files of JSON lines are called .json
        if form == "json" and begins[:1] != b"[":
            raise Refused(f"{name}: neither a JSON array nor JSON lines")
    except Refused:
        source.__exit__()
        raise
    return TextRows(source, form)


def _form_by_name(name: str) -> InputForm | None:
    path = Path(name)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    ending = {".ndjson": "jsonl"}.get(path.suffix.lower(), path.suffix.lower().removeprefix("."))
    return next((form for form in INPUT_FORMS if form == ending), None)
