"""Parquet, in and out. Only this file needs pyarrow, and it imports it only for a Parquet file."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from scoring.errors import InputBroken, Refused
from scoring.records import ENTITY_COLUMNS, Input, Record

BATCH_ROWS: Final = 256
OPTIONAL_COLUMNS: Final = ("guid", "id", "label")


def require(name: str) -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet.

    Raises:
        Refused: pyarrow is not installed.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise Refused(f"{name}: Parquet needs pyarrow; run: pip install '.[scoring]'") from None


def open_parquet(path: Path) -> Input:
    """Rows of a Parquet file, as `datasets` writes KLUE-RE or as a CSV of the competition becomes one.

    Raises:
        Refused: it is not a Parquet file, or a required column is missing.
    """
    pyarrow, parquet = require(str(path))
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise Refused(f"{path}: not a Parquet file that can be read: {_first_line(error)}") from None
    names = file.schema_arrow.names
    for column in ENTITY_COLUMNS:
        if names.count(column) != 1:
            file.close()
            raise Refused(f"{path}: one column {column} is required; it has {', '.join(names)[:300]}")
    columns = [*ENTITY_COLUMNS, *(column for column in OPTIONAL_COLUMNS if names.count(column) == 1)]
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                for record in _records(batch):
                    read += 1
                    yield record
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise InputBroken(f"the Parquet file is damaged: {_first_line(error)}") from None

    return Input(records(), lambda: read / max(1, file.metadata.num_rows), file.close)


def _records(batch: Any) -> Iterator[Record]:
    try:
        contents = batch.to_pylist()
    except UnicodeDecodeError:  # only reading them one by one tells which string it is
        yield from (_record(batch, place) for place in range(batch.num_rows))
    else:
        yield from (Record(None, content) for content in contents)


def _record(batch: Any, place: int) -> Record:
    content, fault = {}, None
    for column in batch.schema.names:
        try:
            content[column] = batch.column(column)[place].as_py()
        except UnicodeDecodeError as error:
            fault = fault or f"{column}: not UTF-8: {error.reason} at byte {error.start + 1}"
    return Record(None, content, fault)


def write(lines: Iterator[dict[str, Any]], path: Path) -> None:
    """Write predictions, as in JSONL, to a Parquet file: one column per field, the probabilities as a map."""
    pyarrow, parquet = require(str(path))
    fields = [
        ("guid", "string"),
        ("id", "string"),
        ("relation", "string"),
        ("score", "float64"),
        ("members", "int32"),
        ("truncated", "bool_"),
    ]
    probabilities = pyarrow.field("probabilities", pyarrow.map_(pyarrow.string(), pyarrow.float64()))
    schema = pyarrow.schema([*((name, getattr(pyarrow, type_)()) for name, type_ in fields), probabilities])
    with parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for line in lines:
            names = {key: None if line.get(key) is None else str(line[key]) for key in ("guid", "id")}
            rows.append(line | names | {"probabilities": list(line["probabilities"].items())})
            if len(rows) == BATCH_ROWS * 16:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def read_predictions(path: Path) -> Iterator[dict[str, Any]]:
    """The predictions that `write` has written.

    Raises:
        Refused: the file is something else.
    """
    pyarrow, parquet = require(str(path))
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                for line in batch.to_pylist():
                    yield line | {"probabilities": dict(line.get("probabilities") or [])}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise Refused(f"{path}: not a Parquet file of predictions: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
