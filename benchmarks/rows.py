"""The rows that benchmarks send: of a file, of KLUE_RE_DATA, or the shipped sentences."""

import argparse
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from loadtest.sentences import Row, make_long_rows
from models.hub import BundlePlace
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


def readable(bundle: BundlePlace, rows: Sequence[Row]) -> list[Row]:
    """The rows that the bundle can read: the entities of the others do not fit into its window. Some servers
    would lose the whole batch of such a row."""
    from models.bundle import Bundle  # slow to import
    from models.bundle_encoder import BundleEncoder
    from models.example import Example, InvalidExample

    encoder, found = BundleEncoder(Bundle.open(bundle)), []
    for row in rows:
        with suppress(InvalidExample):
            encoder.encode(Example.from_row(row))
            found.append(row)
    return found
