"""Where answers go: to files that appear whole and outlive a kill, or to standard output.

    OUTPUT.partial              the output as far as it goes, in its final form (for Parquet: JSON lines)
    OUTPUT.partial.rejects      the rejects so far
    OUTPUT.partial.labelled     label and probabilities of the rows that have a label, for the report
    OUTPUT.partial.state        which job this is, the tally, and how long each of the three was when its last window was finished

A window is finished when the three are on the disk and the state that counts it has replaced the one before.
So whatever a kill leaves behind the lengths in the state belongs to no window, is cut off, and is scored
again.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from scoring.errors import Refused

START_AGAIN: Final = "start again without --resume, or remove what lies beside it as .partial first"
PARTS: Final = ("output", "rejects", "labelled")


@dataclass(frozen=True, slots=True)
class Tally:
    """What has been done, over all runs of a job.

    Attributes:
        rows: rows read; each was either scored or rejected.
        labelled: scored rows with one of the 30 labels.
        strange_labels: scored rows with a label that is none of them.
        broken: why the input could not be read to its end.
    """

    rows: int = 0
    scored: int = 0
    rejected: int = 0
    labelled: int = 0
    strange_labels: int = 0
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The bytes of a finished window for each part."""

    output: bytes
    rejects: bytes
    labelled: bytes


class Sink(Protocol):
    """Takes finished windows."""

    tally: Tally
    complete: bool

    @property
    def labelled(self) -> IO[bytes]: ...
    def commit(self, finished: Finished, tally: Tally, complete: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of an output."""

    output: Path

    def beside(self, ending: str) -> Path:
        return self.output.with_name(self.output.name + ending)

    @property
    def rejects(self) -> Path:
        return self.beside(".rejects.jsonl")

    @property
    def report(self) -> Path:
        return self.beside(".report.html")

    @property
    def state(self) -> Path:
        return self.beside(".partial.state")

    @property
    def converted(self) -> Path:
        return self.beside(".partial.parquet")

    def part(self, name: str) -> Path:
        return self.beside(".partial" if name == "output" else f".partial.{name}")

    def all(self) -> list[Path]:
        """Every file that a run may write."""
        return [
            self.output,
            self.rejects,
            self.report,
            self.state,
            _new(self.state),
            self.converted,
            *map(self.part, PARTS),
        ]


def output_paths(output: str) -> Paths:
    """The files of an output by its name. A symbolic link stays: what it points to is written, and all else
    lies beside that."""
    return Paths(Path(os.path.realpath(output)) if Path(output).is_symlink() else Path(output))


class Journal:
    """The files of one output, from the first window until the output appears. Close it by leaving its
    context.

    Args:
        job: what must be the same for a run to go on with what another one left: input, device, bundle,
            options.
        resume: go on where an earlier run was stopped, if there is one.

    Raises:
        Refused: another run writes this output, or what was left is of another job.
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
            # Opened without being emptied: they may be another run's, and are not ours before they are
            # locked.
            flags = os.O_RDWR if self.complete else os.O_RDWR | os.O_CREAT
            # else it has its final name already
            there = [name for name in PARTS if not self.complete or self.paths.part(name).exists()]
            self._parts = {
                name: opened.enter_context(os.fdopen(os.open(self.paths.part(name), flags, 0o666), "r+b"))
                for name in there
            }
            _lock(self.labelled, paths.output)
            if not known:
                self.paths.state.unlink(missing_ok=True)  # before what it counts goes
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
        """The part of that name: the last one to go, so it is there as long as there is a state."""
        return self._parts["labelled"]

    def commit(self, finished: Finished, tally: Tally, complete: bool = False) -> None:
        """Finish a window: from here on no kill can take it away.

        Raises:
            OSError: there is no room, say. What was finished before stays finished.
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
        """Give the parts of a complete run their final names. A kill between two of these steps leaves a run
        that --resume completes.

        Args:
            convert: makes the output of its part, where renaming is not enough.

        Raises:
            OSError: a file cannot be written or renamed.
        """
        part, folder = self.paths.part("output"), self.paths.output.parent
        if self.tally.rejected == 0:
            self.paths.rejects.unlink(missing_ok=True)  # an earlier run's
        elif (rejects := self.paths.part("rejects")).exists():
            rejects.replace(self.paths.rejects)
        if not part.exists() and not self.paths.output.exists():
            raise Refused(f"{self.paths.output}: the finished output is gone: {START_AGAIN}")
        if part.exists() and convert:
            convert(part, self.paths.converted)
            self.paths.converted.replace(self.paths.output)
        elif part.exists():
            part.replace(self.paths.output)
        sync_folder(folder)
        self.discard()

    def discard(self) -> None:
        """Remove what this run has left, so that nothing can be resumed."""
        self.paths.state.unlink(missing_ok=True)  # first: without it, the parts are nothing to go on with
        for name in PARTS:
            self.paths.part(name).unlink(missing_ok=True)

    def _take_over(self, state: dict[str, Any]) -> None:
        for what, asked in json.loads(json.dumps(self.job)).items():
            if state["job"].get(what) != asked:
                raise Refused(
                    f"{self.paths.output}: the run that was stopped had another {what}: {START_AGAIN}"
                )
        self.tally = Tally(**state["tally"])
        self.complete = state["complete"]
        self._lengths = state["lengths"]


class StandardOutput:
    """Answers to standard output as they are finished, rejects to stderr. Nothing can be resumed."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.complete = False
        self._labelled = tempfile.TemporaryFile()  # noqa: SIM115 (closed on leaving the context)

    def __enter__(self) -> "StandardOutput":
        return self

    def __exit__(self, *_: object) -> None:
        self._labelled.close()

    @property
    def labelled(self) -> IO[bytes]:
        """As the journal's part of that name."""
        return self._labelled

    def commit(self, finished: Finished, tally: Tally, complete: bool = False) -> None:
        """Write a window."""
        sys.stdout.buffer.write(finished.output)
        sys.stdout.buffer.flush()
        sys.stderr.write(finished.rejects.decode())
        self._labelled.write(finished.labelled)
        self.tally, self.complete = tally, complete


def write_whole(path: Path, data: bytes) -> None:
    """A file that is there whole or, after a kill at any moment, as it was before."""
    with _new(path).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _new(path).replace(path)


def sync_folder(path: Path) -> None:
    """What was renamed in a folder stays renamed when the machine stops."""
    with suppress(OSError):  # not every file system can
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _read_state(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(path.read_bytes())
        Tally(**state["tally"])
        if (
            not isinstance(state["job"], dict)
            or state["lengths"].keys() != set(PARTS)
            or not isinstance(state["complete"], bool)
        ):
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, KeyError, TypeError):
        raise Refused(f"{path}: this is no state of a run: {START_AGAIN}") from None
    return dict(state)


def _lock(file: IO[bytes], output: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Refused(f"{output}: another run is writing it") from None
