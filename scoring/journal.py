"""Where predictions go: to files that appear whole and survive a kill, or to standard output.

    OUTPUT.partial              the output so far, in its final form (for Parquet: JSON lines)
    OUTPUT.partial.rejects      the rejects so far
    OUTPUT.partial.labelled     label and probabilities of the labelled rows, for the report
    OUTPUT.partial.state        the job, the tally, and the length of each part after the last finished window

A window is finished in two steps:

1. Its bytes are appended to the three parts and flushed to the disk.
2. A new state, which counts them, replaces the old state.

After a kill, bytes past the lengths in the state belong to no finished window. They are cut off, and their
rows are scored again.
"""

import fcntl
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from scoring.errors import Refused
from scoring.mistakes import Mistake
from scoring.paths import PARTS, Paths, unfinished

START_AGAIN: Final = "start without --resume, or remove the files OUTPUT.partial* first"


@dataclass(frozen=True, slots=True)
class Tally:
    """What is done, over all runs of a job.

    Attributes:
        rows: rows read; each was scored or rejected.
        unlisted: rejected rows that are counted and not written (`scoring.reasons.MOST_LISTED`).
        labelled: scored rows with one of the 30 labels.
        strange_labels: scored rows with another label.
        numbered_labels: labelled rows whose label is a number.
        reasons: how many rows were rejected for each kind of reason, under its first wording.
        mistakes: the most confident wrong predictions.
        broken: why the input could not be read to its end.
    """

    rows: int = 0
    scored: int = 0
    rejected: int = 0
    labelled: int = 0
    strange_labels: int = 0
    numbered_labels: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()
    broken: str | None = None
    unlisted: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The bytes of a finished window, for each part."""

    output: bytes = b""
    rejects: bytes = b""
    labelled: bytes = b""


class Journal:
    """The files of one output, from the first window until the output appears.

    Args:
        job: what must be equal for a run to continue an earlier one: input, device, bundle, options.
        resume: continue an earlier run that was stopped, if there is one.

    Raises:
        Refused: another run is writing this output, or the earlier run had another job.
        OSError: the files cannot be made.
    """

    def __init__(self, paths: Paths, job: Mapping[str, Any], resume: bool) -> None:
        self.paths = paths
        self.job = dict(job)
        self.tally = Tally()
        self.complete = False
        self._lengths = dict.fromkeys(PARTS, 0)
        self._stack = ExitStack()
        with ExitStack() as opened:
            known = _read_state(self.paths.state) if resume else None
            if known:
                self._take_over(known)
            # not emptied on opening: until they are locked, they can be another run's
            flags = os.O_RDWR if self.complete else os.O_RDWR | os.O_CREAT
            # a complete run has perhaps renamed some parts already
            there = [name for name in PARTS if not self.complete or self.paths.part(name).exists()]
            self._parts = {
                name: opened.enter_context(os.fdopen(os.open(self.paths.part(name), flags, 0o666), "r+b"))
                for name in there
            }
            _lock(self.labelled, paths.output)
            if not known:
                self.paths.state.unlink(missing_ok=True)  # before the parts that it counts are cut
            for name, file in self._parts.items():
                if file.seek(0, os.SEEK_END) < self._lengths[name]:
                    raise Refused(f"{self.paths.part(name)}: shorter than its state says: {START_AGAIN}")
                file.truncate(self._lengths[name])
                file.seek(self._lengths[name])
            self._stack = opened.pop_all()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def labelled(self) -> IO[bytes]:
        """The part of that name. It is removed last, so it exists as long as there is a state."""
        return self._parts["labelled"]

    def commit(self, finished: Finished, tally: Tally, complete: bool = False) -> None:
        """Finish a window. After this call, a kill cannot lose it.

        Raises:
            OSError: the disk is full, for example. Windows that were finished before stay finished.
        """
        for name, file in self._parts.items():
            if data := getattr(finished, name):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        lengths = {name: self._lengths[name] + len(getattr(finished, name)) for name in PARTS}
        state = {"job": self.job, "tally": asdict(tally), "lengths": lengths, "complete": complete}
        write_whole(self.paths.state, json.dumps(state, indent=1).encode())
        self._lengths, self.tally, self.complete = lengths, tally, complete

    def publish(self, convert: Callable[[Path, Path], None] | None = None) -> None:
        """Give the parts of a complete run their final names. After a kill between two steps, --resume
        completes the rest.

        Args:
            convert: makes the output from its part, if renaming is not enough.

        Raises:
            OSError: a file cannot be written or renamed.
        """
        part, output = self.paths.part("output"), self.paths.output
        if self.tally.rejected == 0:
            self.paths.rejects.unlink(missing_ok=True)  # an earlier run's
        elif (rejects := self.paths.part("rejects")).exists():
            rejects.replace(self.paths.rejects)
        if not part.exists() and not output.exists():
            raise Refused(f"{output}: the finished output is gone: {START_AGAIN}")
        if part.exists() and convert:
            convert(part, self.paths.converted)
            self.paths.converted.replace(output)
        elif part.exists():
            part.replace(output)
        _sync_folder(output.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the partial files, so that nothing can be resumed."""
        self.paths.state.unlink(missing_ok=True)  # first: without a state, the parts mean nothing
        for name in PARTS:
            self.paths.part(name).unlink(missing_ok=True)

    def _take_over(self, state: dict[str, Any]) -> None:
        for name, value in json.loads(json.dumps(self.job)).items():
            if state["job"].get(name) != value:
                raise Refused(f"{self.paths.output}: the earlier run had another {name}: {START_AGAIN}")
        self.tally = Tally(**state["tally"])
        self.complete = state["complete"]
        self._lengths = state["lengths"]


class StandardOutput:
    """Predictions to standard output as they are finished, rejects to stderr. Nothing can be resumed."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.complete = False
        try:
            self._labelled: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed on leaving the context)
        except OSError:  # nothing is writable; a labelled row takes 124 bytes
            self._labelled = io.BytesIO()

    def __enter__(self) -> "StandardOutput":
        return self

    def __exit__(self, *_: object) -> None:
        self._labelled.close()

    @property
    def labelled(self) -> IO[bytes]:
        """As `Journal.labelled`."""
        return self._labelled

    def commit(self, finished: Finished, tally: Tally, complete: bool = False) -> None:
        """Write a window."""
        sys.stdout.buffer.write(finished.output)
        sys.stdout.buffer.flush()
        sys.stderr.write(finished.rejects.decode())
        self._labelled.write(finished.labelled)
        self.tally, self.complete = tally, complete


Sink = Journal | StandardOutput
"""Takes finished windows."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file. After a kill at any moment, it is there whole or as it was before."""
    with unfinished(path).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished(path).replace(path)


def _sync_folder(path: Path) -> None:
    """Make renames in a folder survive a power failure."""
    with suppress(OSError):  # some file systems cannot do this
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read_state(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(path.read_bytes())
        Tally(**state["tally"])
        known = isinstance(state["job"], dict) and isinstance(state["complete"], bool)
        if not known or state["lengths"].keys() != set(PARTS):
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, KeyError, TypeError):
        raise Refused(f"{path}: this is not the state of a run: {START_AGAIN}") from None
    return dict(state)


def _lock(file: IO[bytes], output: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Refused(f"{output}: another run is writing it; wait for that run, or stop it") from None
