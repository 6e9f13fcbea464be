"""The files of an output, and a check of all paths before a model is loaded."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.files.forms import STANDARD
from models.files.parts import files_of
from models.files.tables import is_saved_dataset
from scoring.errors import Refused
from scoring.options import ScoringOptions

PARTS: Final = ("output", "rejects", "labelled")
IDENTITY_BYTES: Final = 1024 * 1024
"""First bytes of an input that are compared when a run continues."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one output."""

    output: Path

    @classmethod
    def of(cls, output: str) -> "Paths":
        """The files of an output by its name. For a symbolic link, they are next to the file that it points
        to, and the link stays."""
        return cls(Path(os.path.realpath(output)) if Path(output).is_symlink() else Path(output))

    def with_ending(self, ending: str) -> Path:
        return self.output.with_name(self.output.name + ending)

    @property
    def rejects(self) -> Path:
        return self.with_ending(".rejects.jsonl")

    @property
    def report(self) -> Path:
        return self.with_ending(".report.html")

    @property
    def state(self) -> Path:
        return self.with_ending(".partial.state")

    @property
    def converted(self) -> Path:
        return self.with_ending(".partial.parquet")

    def part(self, name: str) -> Path:
        return self.with_ending(".partial" if name == "output" else f".partial.{name}")

    def all(self) -> list[Path]:
        """Every file that a run can write."""
        final = [self.output, self.rejects, self.report]
        return [*final, self.state, unfinished(self.state), self.converted, *map(self.part, PARTS)]


def unfinished(path: Path) -> Path:
    """The name of a file while it is written."""
    return path.with_name(path.name + ".new")


def can_be_read_again(name: str) -> bool:
    """Whether it is a regular file or a folder. Standard input and a pipe can be read only once."""
    return name != STANDARD and (Path(name).is_file() or Path(name).is_dir())


def identity(name: str) -> dict[str, object]:
    """What identifies an input and its content: size, time of change, SHA-256 of its first bytes."""
    files = files_of(Path(name))
    statuses = [file.stat() for file in files]
    with files[0].open("rb") as file:
        digest = hashlib.sha256(file.read(IDENTITY_BYTES)).hexdigest()
    return {
        "size": sum(status.st_size for status in statuses),
        "mtime_ns": max(status.st_mtime_ns for status in statuses),
        "sha256_of_first_bytes": digest,
    }


def check_paths(options: ScoringOptions) -> None:
    """Refuse paths that would fail only after the models are loaded.

    Raises:
        Refused: OUTPUT or one of its other files is INPUT or cannot be written; --resume
            cannot work.
    """
    source, output = options.input, options.output
    if options.resume and STANDARD in (source, output):
        raise Refused(
            "--resume needs files: standard input cannot be read twice; standard output cannot be cut"
        )
    if options.resume and Path(source).exists() and not can_be_read_again(source):
        raise Refused(f"{source}: --resume needs a regular file; this one cannot be read twice")
    if output != STANDARD:
        _check_output(source, output)


def _check_output(source: str, output: str) -> None:
    if not Path(output).name or Path(output).is_dir():
        raise Refused(f"{output}: this is a folder; name a file")
    paths = Paths.of(output)
    folder = paths.output.parent
    is_input = folder.is_dir() and folder.resolve() == Path(source).resolve()
    if is_input and not is_saved_dataset(source):
        raise Refused(f"{output}: every file of the folder {source} is input; name another folder")
    if not folder.is_dir():
        raise Refused(f"{output}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise Refused(f"{output}: the folder {folder} cannot be written")
    for path in [Path(output), *paths.all()]:
        if path.exists() and not path.is_file():
            raise Refused(
                f"{path}: a run writes a file here, but this is not a regular file; remove or rename it"
            )
        if source != STANDARD and path.exists() and path.samefile(source):
            raise Refused(f"{path}: this is the input; it would be overwritten")
