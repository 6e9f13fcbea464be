"""Rows of KLUE-RE, with labels or without, from a file in any form that scoring reads (`models.files`)."""

import hashlib
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.example import Example, InvalidExample
from models.files.errors import InputBroken
from models.files.errors import InvalidRows as InvalidRows
from models.files.parts import files_of
from models.files.reader import open_input
from models.files.rows import FileRow, Reject, read_row


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """An example with the id of its relation. `place` says where it is in its file: "line 3"."""

    example: Example
    label_id: int
    place: str = field(default="", compare=False)


def read_labelled(path: Path) -> list[LabelledExample]:
    """Read a file of KLUE-RE rows with labels.

    Raises:
        InvalidRows: the file cannot be read or is empty, or a row is not a valid example with one of the 30
            labels.
    """
    return [labelled(row, path) for row in read_rows(path)]


def read_examples(path: Path) -> list[Example]:
    """Read a file of KLUE-RE rows and ignore their labels.

    Raises:
        InvalidRows: the file cannot be read or is empty, or a row is not a valid example.
    """
    return [row.example for row in read_rows(path)]


def read_rows(path: Path) -> Iterator[FileRow[Example]]:
    """The rows of a file, each a valid example. What was assumed about the file is logged once.

    Raises:
        InvalidRows: the file cannot be read or is empty, or a row is not a valid example.
    """
    source = open_input(str(path))
    number = numbered = 0
    try:
        for number, record in enumerate(source.records, start=1):
            row = read_row(record, number)
            if isinstance(row, Reject):
                where = f"line {row.line}" if row.line else f"row {number}"
                raise InvalidRows(f"{path}, {where}: {row.reason}; correct the row or remove it")
            numbered += row.label.number
            yield row
    except InputBroken as error:
        where = f", line {error.line}" if error.line else ""
        raise InvalidRows(f"{path}{where}: {error}") from None
    finally:
        source.close()
    if not number:
        raise InvalidRows(f"{path}: no rows")
    if source.encoding not in (None, "utf-8"):
        _say(f"{path}: read as {source.encoding} text")
    if numbered:
        _say(f"{path}: labels given by number ({numbered:,} rows) are read in KLUE's order, 0 to 29")


def labelled(row: FileRow[Example], path: Path) -> LabelledExample:
    """A row with its label.

    Raises:
        InvalidRows: its label is not one of the 30 relations.
    """
    if row.label.id is None:
        raise InvalidRows(
            f"{path}, {row.place}: label: one of the 30 relations or its number in KLUE's order is required, "
            f"not {row.fields.get('label')!r}"
        )
    return LabelledExample(row.example, row.label.id, row.place)


def check_window(path: Path, rows: Iterable[LabelledExample], encode: Callable[[Example], object]) -> None:
    """Encode each row once, so that a bad row is reported before hours of work.

    Raises:
        InvalidRows: the entities of a row do not fit into the window together; the message names file and
            line.
    """
    for row in rows:
        try:
            encode(row.example)
        except InvalidExample as error:
            raise InvalidRows(f"{path}, {row.place}: {error}") from None


def fits(example: Example, encode: Callable[[Example], object]) -> bool:
    """Whether an example's entities fit into the window together."""
    try:
        encode(example)
    except InvalidExample:
        return False
    return True


def two_labels(rows: Sequence[LabelledExample]) -> NDArray[np.bool_]:
    """Which rows have the sentence and the spans of another row that has another label, shape (rows,)."""
    keys = []
    labels: defaultdict[object, set[int]] = defaultdict(set)
    for row in rows:
        subject, object_ = row.example.subject_entity, row.example.object_entity
        spans = (subject.start_idx, subject.end_idx, object_.start_idx, object_.end_idx)
        keys.append((row.example.sentence, spans))
        labels[keys[-1]].add(row.label_id)
    return np.array([len(labels[key]) > 1 for key in keys], dtype=bool)


def count_rows(path: Path) -> int:
    """How many rows a file has, good and bad ones.

    Raises:
        InvalidRows: the file cannot be read.
    """
    source = open_input(str(path))
    try:
        return sum(1 for _ in source.records)
    except InputBroken as error:
        raise InvalidRows(f"{path}: {error}") from None
    finally:
        source.close()


def sha256(path: Path) -> str:
    """SHA-256 of a file of rows, or of the files of a folder one after the other.

    Raises:
        InvalidRows: it is a folder without rows.
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for file in files_of(path):
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def label_ids(rows: Sequence[LabelledExample]) -> NDArray[np.int64]:
    """The rows' labels, shape (rows,)."""
    return np.array([row.label_id for row in rows], dtype=np.int64)


def sentence(row: LabelledExample) -> str:
    """A row's sentence, as `plain_sentence`."""
    return plain_sentence(row.example)


def plain_sentence(example: Example) -> str:
    """An example's sentence in composed form (NFC), without space around it."""
    return unicodedata.normalize("NFC", example.sentence.strip())


def sentence_halves(rows: Sequence[LabelledExample]) -> NDArray[np.bool_]:
    """The half of each row, for cross-fitting: bool of shape (rows,). Rows of one sentence are in one half.

    Raises:
        InvalidRows: one half is empty.
    """
    halves = np.array(
        [hashlib.sha256(sentence(row).encode("utf-8", "surrogatepass")).digest()[0] % 2 == 1 for row in rows]
    )
    if halves.all() or not halves.any():
        raise InvalidRows("too few sentences: rows for two halves are required")
    return halves


@cache
def _say(message: str) -> None:
    """Log a message, each one once: a command can read a file several times."""
    logging.getLogger(__name__).warning(message)
