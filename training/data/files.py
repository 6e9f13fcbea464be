"""Files written whole or not at all: a kill leaves the file as it was, and a part of the new one beside
it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which gets its name at the end; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        yield file
    partial.replace(path)


def write(path: Path, text: str) -> None:
    """A text in UTF-8, whole or not at all."""
    with whole(path) as file:
        file.write(text.encode())
