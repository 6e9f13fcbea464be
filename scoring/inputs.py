"""Finds the form of an input, and gives its rows as records."""

from pathlib import Path
from typing import Final

from scoring.errors import Refused
from scoring.forms import STANDARD, InputForm, input_form
from scoring.parquet import open_parquet
from scoring.paths import can_be_read_again
from scoring.records import Input, read_csv, read_json_array, read_json_lines
from scoring.sources import open_source

PARQUET: Final = b"PAR1"


def open_input(name: str, form: InputForm | None = None) -> Input:
    """Open an input.

    Args:
        name: a path, or `-` for standard input.
        form: by default the one that the name tells, or else the one that the content tells.

    Raises:
        Refused: it cannot be read, or it has another form.
    """
    source = open_source(name)
    begins = source.head.lstrip()[:4]
    form = form or input_form(name)
    if begins == PARQUET or form == "parquet":
        source.__exit__()
        if not can_be_read_again(name):
            called = "standard input" if name == STANDARD else f"{name}, which is no regular file"
            raise Refused(f"Parquet cannot be read from {called}: its end must be read first")
        return open_parquet(Path(name))
    if form is None:
        form = "json" if begins[:1] == b"[" else "csv" if begins and begins[:1] != b"{" else "jsonl"
    if form == "json" and begins[:1] == b"{":
        form = "jsonl"  # many files of JSON lines are called .json
    if form == "json" and begins[:1] != b"[":
        source.__exit__()
        raise Refused(f"{name}: neither a JSON array nor JSON lines; --from names another form")
    if form == "csv":
        records = read_csv(source.chunks, name)
    else:
        records = (read_json_array if form == "json" else read_json_lines)(source.chunks)
    return Input(records, source.fraction, source.__exit__)
