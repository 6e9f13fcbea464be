"""A file of rows split into one to train on and one to validate on: `python -m training.split`."""

from pathlib import Path
from typing import Any

from models.rows import labelled, read_rows
from training.data.files import whole
from training.data.folds import parts
from training.errors import InvalidArguments


def split(source: Path, folder: Path, of: int) -> dict[str, Any]:
    """Write train.jsonl and validation.jsonl into a folder; returns their numbers of rows.

    Args:
        of: number of parts of the sentences; the first part is for validation.

    Raises:
        InvalidArguments: the folder has one of the two files already.
        InvalidRows: `source` cannot be used, or it has fewer sentences than parts.
        OSError: a file cannot be written.
    """
    files = {name: folder / f"{name}.jsonl" for name in ("train", "validation")}
    for path in files.values():
        if path.exists():
            raise InvalidArguments(f"FOLDER: {path} exists already; name another folder")
    rows = list(read_rows(source))
    held_out = parts([labelled(row, source) for row in rows], of) == 1
    counts = {}
    for name, path in files.items():
        chosen = [row for row, out in zip(rows, held_out, strict=True) if out == (name == "validation")]
        with whole(path) as file:
            for row in chosen:
                file.write(row.line_of_json())
        counts[name] = len(chosen)
    return {"folder": str(folder), **counts}
