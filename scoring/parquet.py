"""Parquet, in and out. The only file that needs pyarrow, and only once a Parquet file is asked for."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from scoring.errors import InputBroken, Refused
from scoring.records import ENTITY_COLUMNS, Record

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
        raise Refused(
            f"{name}: Parquet needs pyarrow, which serving does not install: pip install '.[scoring]'"
        ) from None


class ParquetRows:
    """Rows of a Parquet file, as `datasets` writes KLUE-RE or as a CSV of the competition becomes one.

    Raises:
        Refused: it is no Parquet file, or a column that is needed is missing.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._pyarrow, parquet = require(self.name)
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, self._pyarrow.ArrowException) as error:
            raise Refused(f"{path}: not a Parquet file that can be read: {_first_line(error)}") from None
        columns = self._file.schema_arrow.names
        for column in ENTITY_COLUMNS:
            if columns.count(column) != 1:
                self._file.close()
                raise Refused(
                    f"{path}: a Parquet file with one column {column} is required; it has {', '.join(columns)[:300]}"
                )
        self._columns = [
            *ENTITY_COLUMNS,
            *(column for column in OPTIONAL_COLUMNS if columns.count(column) == 1),
        ]
        self._read = 0

    def __enter__(self) -> "ParquetRows":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fraction(self) -> float:
        """The share of the rows that has been read."""
        rows: int = self._file.metadata.num_rows
        return self._read / max(1, rows)

    def records(self) -> Iterator[Record]:
        """All rows.

        Raises:
            InputBroken: the file is damaged further on.
        """
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=self._columns):
                for record in _records(batch):
                    self._read += 1
                    yield record
        except (OSError, ValueError, self._pyarrow.ArrowException) as error:
            raise InputBroken(f"the Parquet file is damaged: {_first_line(error)}") from None


def _records(batch: Any) -> Iterator[Record]:
    try:
        contents = batch.to_pylist()
    except UnicodeDecodeError:  # of one string, which only going through them one by one tells
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
    """Predictions, as JSONL has them, into a Parquet file: a column a field, the probabilities as a map."""
    pyarrow, parquet = require(str(path))
    fields = [
        ("guid", "string"),
        ("id", "string"),
        ("relation", "string"),
        ("score", "float64"),
        ("members", "int32"),
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
    """What `write` has written, line by line.

    Raises:
        Refused: it is something else.
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
