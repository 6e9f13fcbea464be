"""Change a bundle that may be in use: a copy is changed, and then takes the bundle's place."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

AT_FDCWD: Final = -100
RENAME_EXCHANGE: Final = 2
"""Of Linux: <fcntl.h> and <linux/fs.h>."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A copy of the bundle at `path` to change, beside it. It takes the bundle's place when the block ends
    without an error.

    Whatever fails, and on Linux whenever the process is killed, there is a whole bundle at `path`, the old
    one or the new one. A kill may leave the other one in a folder beside it whose name begins with a dot.

    Raises:
        OSError: the folder that the bundle lies in cannot be written, or has no room for a second bundle.
    """
    place = path.resolve()  # where a symbolic link points to
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        try:
            copy = Path(shutil.copytree(place, Path(scratch) / "bundle"))
        except shutil.Error as error:
            raise OSError(error.args[0][0][2]) from None  # why the first file could not be copied
        yield copy
        if not _exchange(copy, place):
            before = Path(scratch) / "before"
            place.rename(before)
            try:
                copy.rename(place)
            except OSError:
                before.rename(place)
                raise


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; whether the system can."""
    if sys.platform != "linux":
        return False
    # Python has no name for it, nor have old C libraries
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return (
        rename is not None
        and rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
    )
