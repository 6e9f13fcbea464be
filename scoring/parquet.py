"""Predictions as Parquet, written and read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.files.tables import BATCH_ROWS, pyarrow_part
from scoring.errors import Refused


def write(lines: Iterator[dict[str, Any]], path: Path) -> None:
    """Write predictions, as in JSONL, to a Parquet file: one column per field, the probabilities as a map."""
    pyarrow, parquet = (pyarrow_part(part, str(path)) for part in ("pyarrow", "pyarrow.parquet"))
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
    pyarrow, parquet = (pyarrow_part(part, str(path)) for part in ("pyarrow", "pyarrow.parquet"))
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                for line in batch.to_pylist():
                    yield line | {"probabilities": dict(line.get("probabilities") or [])}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"{path}: not a Parquet file of predictions: {reason}") from None
