"""Files of rows in every form that scoring reads, and what a run of scoring leaves and prints."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.sentences import Row
from models.labels import RELATIONS

COLUMNS = ("id", "sentence", "subject_entity", "object_entity", "label", "source")


def as_jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[Row]) -> bytes:
    """As pandas writes the competition's files: entities as Python literals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, row in enumerate(rows):
        writer.writerow(
            [
                number,
                row["sentence"],
                str(row["subject_entity"]),
                str(row["object_entity"]),
                row["label"],
                row["source"],
            ]
        )
    return text.getvalue().encode()


def as_parquet(rows: list[Row]) -> bytes:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(data))


SKIPPABLE = b"\x5e\x2a\x4d\x18" + (300).to_bytes(4, "little") + bytes(300)
"""A frame of zstd that holds no data."""

INPUTS = {
    "rows.json": lambda rows: json.dumps(rows, ensure_ascii=False).encode(),
    "pretty.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "lines.json": as_jsonl,
    "rows.jsonl": as_jsonl,
    "windows.jsonl": lambda rows: b"\xef\xbb\xbf" + as_jsonl(rows).replace(b"\n", b"\r\n"),
    "rows.csv": as_csv,
    "windows.csv": lambda rows: b"\xef\xbb\xbf" + as_csv(rows).replace(b"\n", b"\r\n"),
    "rows.jsonl.gz": lambda rows: (
        gzip.compress(as_jsonl(rows[:20])) + bytes(512) + gzip.compress(as_jsonl(rows[20:])) + bytes(512)
    ),
    "gzip-by-content.json": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "rows.csv.zst": lambda rows: zstd(as_csv(rows)),
    "rows.json.zst": lambda rows: zstd(json.dumps(rows)[:99].encode()) + zstd(json.dumps(rows)[99:].encode()),
    "skippable.jsonl.zst": lambda rows: (
        SKIPPABLE + zstd(as_jsonl(rows[:20])) + SKIPPABLE + zstd(as_jsonl(rows[20:]))
    ),
    "rows.parquet": as_parquet,
    "no-ending": as_jsonl,
}


def summary_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one plain line of a run that was refused."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def matrix(lines: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([[line["probabilities"][relation] for relation in RELATIONS] for line in lines])


class Standard:
    """A standard stream that bytes go through."""

    def __init__(self, data: bytes = b"") -> None:
        self.buffer = io.BytesIO(data)
