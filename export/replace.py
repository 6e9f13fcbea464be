"""Change a bundle that can be in use: a copy is changed, and then takes the bundle's place.

1. The bundle is copied into a hidden folder next to it, and the copy is changed.
2. The bundle is renamed to `.NAME.before`.
3. The copy is renamed to NAME.
4. `.NAME.before` is removed.

A server opens a bundle only when it starts or reloads, so it does not notice. If the process is killed
between 2 and 3, there is no folder NAME: the next change, or `recover`, renames `.NAME.before` back. So
does a person.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A copy of the bundle at `path` to change. It takes the bundle's place if the block ends without an
    error.

    After an error, the bundle is as it was. A kill can leave a hidden folder next to it, which can be
    removed.

    Raises:
        OSError: the folder that contains the bundle cannot be written, or has no room for a second bundle.
    """
    place = path.resolve()  # the target of a symbolic link
    recover(place)
    before = _before(place)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        try:
            copy = Path(shutil.copytree(place, Path(scratch) / "bundle"))
        except shutil.Error as error:
            raise OSError(error.args[0][0][2]) from None  # why the first file could not be copied
        yield copy
        place.rename(before)
        try:
            copy.rename(place)
        except OSError:
            before.rename(place)
            raise
    shutil.rmtree(before)


def recover(path: Path) -> None:
    """Undo a change that was killed between its two renames, or remove the old bundle that a kill left
    after them."""
    place = path.resolve()
    before = _before(place)
    if before.exists() and place.exists():
        shutil.rmtree(before)
    elif before.exists():
        before.rename(place)


def _before(place: Path) -> Path:
    return place.with_name(f".{place.name}.before")
