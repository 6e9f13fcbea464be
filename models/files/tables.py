"""Parquet files, Arrow files, and the folders that `save_to_disk` of `datasets` writes, cut into records.

pyarrow is imported only for such a file.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from models.files.errors import InputBroken, InvalidRows
from models.files.forms import InputForm
from models.files.records import REQUIRED, Input, Record

PARQUET: Final = b"PAR1"
ARROW_FILE: Final = b"ARROW1"
ARROW_STREAM: Final = b"\xff\xff\xff\xff"
BATCH_ROWS: Final = 256
OPTIONAL: Final = ("guid", "id", "label", "source")
STATE: Final = "state.json"
"""What `save_to_disk` writes into the folder of a data set."""
SPLITS: Final = "dataset_dict.json"
"""What it writes into the folder of several splits."""


def pyarrow_part(part: str, name: str) -> Any:
    """A module of pyarrow.

    Raises:
        InvalidRows: pyarrow is not installed.
    """
    try:
        return import_module(part)
    except ImportError:
        raise InvalidRows(f"{name}: Parquet and Arrow need pyarrow; run: pip install '.[scoring]'") from None


def is_saved_dataset(name: str) -> bool:
    """Whether it is a folder that `save_to_disk` of `datasets` has written."""
    return any((Path(name) / file).is_file() for file in (STATE, SPLITS))


def data_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder that `save_to_disk` has written, in order.

    Raises:
        InvalidRows: it is one with several splits, or its state cannot be read.
    """
    try:
        if (folder / SPLITS).is_file():
            splits = json.loads((folder / SPLITS).read_bytes())["splits"]
            raise InvalidRows(f"{folder}: it has several splits; name one: {folder / splits[0]}")
        state = json.loads((folder / STATE).read_bytes())
        if state.get("_indices_data_files"):
            raise InvalidRows(f"{folder}: an index chooses its rows; call flatten_indices() before saving")
        return [folder / file["filename"] for file in state["_data_files"]]
    except InvalidRows:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidRows(f"{folder}: this data set of save_to_disk cannot be read: {_line(error)}") from None


def open_table(path: Path, form: InputForm) -> Input:
    """Rows of a Parquet file, an Arrow file or a saved data set.

    Raises:
        InvalidRows: it is not such a file, or a required column is missing.
    """
    pyarrow = pyarrow_part("pyarrow", str(path))
    stack = ExitStack()
    try:
        if form == "parquet":
            file = stack.enter_context(pyarrow_part("pyarrow.parquet", str(path)).ParquetFile(path))
            schema, rows = file.schema_arrow, file.metadata.num_rows
            batches = file.iter_batches(BATCH_ROWS, columns=_columns(path, schema))
        else:
            parts = data_files(path) if path.is_dir() else [path]
            opened = [stack.enter_context(_open_arrow(part)) for part in parts]
            if not opened:
                raise InvalidRows(f"{path}: the data set has no files")
            schema, rows = opened[0].schema, 0
            columns = _columns(path, schema)
            batches = (batch.select(columns) for part in opened for batch in _arrow_batches(part))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        stack.close()
        if isinstance(error, InvalidRows):
            raise
        kind = "a Parquet file" if form == "parquet" else "an Arrow file"
        raise InvalidRows(f"{path}: not {kind} that can be read: {_line(error)}") from None
    labels = _label_names(schema)
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        try:
            for batch in batches:
                for record in _records(batch, labels):
                    read += 1
                    yield record
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
            raise InputBroken(f"the file is damaged: {_line(error)}") from None

    return Input(records(), form, None, lambda: read / rows if rows else None, stack.close)


def _open_arrow(path: Path) -> Any:
    ipc = pyarrow_part("pyarrow.ipc", str(path))
    with path.open("rb") as file:
        begins = file.read(len(ARROW_FILE))
    source = pyarrow_part("pyarrow", str(path)).memory_map(str(path))
    return (ipc.open_file if begins == ARROW_FILE else ipc.open_stream)(source)


def _arrow_batches(opened: Any) -> Iterator[Any]:
    count = getattr(opened, "num_record_batches", None)
    whole = opened if count is None else (opened.get_batch(number) for number in range(count))
    for batch in whole:
        yield from (batch.slice(start, BATCH_ROWS) for start in range(0, batch.num_rows, BATCH_ROWS))


def _columns(path: Path, schema: Any) -> list[str]:
    for column in REQUIRED:
        if schema.names.count(column) != 1:
            found = ", ".join(schema.names)[:300]
            raise InvalidRows(f"{path}: one column {column} is required; it has {found or 'none'}")
    return [*REQUIRED, *(column for column in OPTIONAL if schema.names.count(column) == 1)]


def _label_names(schema: Any) -> list[str] | None:
    """The names of the labels' numbers, where `datasets` has written them into the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return list(features["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return None


def _records(batch: Any, labels: list[str] | None) -> Iterator[Record]:
    rows: list[tuple[dict[str, Any], str | None]]
    try:
        rows = [(content, None) for content in batch.to_pylist()]
    except UnicodeDecodeError:  # only reading them one by one tells which string it is
        rows = [_row(batch, place) for place in range(batch.num_rows)]
    for content, fault in rows:
        label = content.get("label")
        if labels and isinstance(label, int) and 0 <= label < len(labels):
            content["label"] = labels[label]
        yield Record(None, content, fault)


def _row(batch: Any, place: int) -> tuple[dict[str, Any], str | None]:
    content, fault = {}, None
    for column in batch.schema.names:
        try:
            content[column] = batch.column(column)[place].as_py()
        except UnicodeDecodeError as error:
            fault = fault or f"{column}: not UTF-8: {error.reason} at byte {error.start + 1}"
    return content, fault


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
