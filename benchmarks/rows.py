"""The rows that benchmarks send: of a file, of KLUE_RE_DATA, or the shipped sentences."""

import argparse
import os
import random
from pathlib import Path

from loadtest.sentences import Row, make_long_rows
from models.rows import read_rows


def add_rows(parser: argparse.ArgumentParser, count: int) -> None:
    """`--rows` and `--count`."""
    parser.add_argument(
        "--rows",
        type=Path,
        help="file of KLUE-RE rows (default: $KLUE_RE_DATA/validation.jsonl, else shipped sentences)",
    )
    parser.add_argument(
        "--count", type=int, default=count, help="rows drawn from them (default: %(default)s)"
    )


def draw_rows(path: Path | None, count: int) -> list[Row]:
    """At most `count` rows, drawn with a fixed seed."""
    if path is None and (folder := os.environ.get("KLUE_RE_DATA")):
        path = Path(folder) / "validation.jsonl"
    if path is None:
        return make_long_rows(count)
    found = [dict(row.fields) for row in read_rows(path)]
    return random.Random(0).sample(found, min(count, len(found)))
