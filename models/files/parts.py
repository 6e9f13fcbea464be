"""A folder of parts, as Spark writes one: part-00000.csv, part-00001.csv, _SUCCESS and .crc files."""

from pathlib import Path
from typing import Final

from models.files.errors import InvalidRows
from models.files.forms import input_form
from models.files.tables import data_files, is_saved_dataset

PREFIX: Final = "part-"
"""How Spark names the files of a table."""


def files_of(path: Path) -> list[Path]:
    """The files with the rows of a file, of a saved data set or of a folder of parts, in order.

    Raises:
        InvalidRows: it is a folder that cannot be used.
    """
    if not path.is_dir():
        return [path]
    return data_files(path) if is_saved_dataset(str(path)) else parts(path)


def parts(folder: Path) -> list[Path]:
    """The parts of a folder in the order of their names. Empty files, and names that begin with a dot or an
    underscore, are none.

    Raises:
        InvalidRows: it has no parts, other files, parts of several forms, or folders. A folder with a train
            file and a validation file is no table in parts.
    """
    try:
        found = sorted(each for each in folder.iterdir() if each.name[0] not in "._")
        if inner := next((each for each in found if each.is_dir()), None):
            raise InvalidRows(f"{folder}: this folder has folders; name one of them: {inner}")
        found = [each for each in found if each.stat().st_size]
    except OSError as error:
        raise InvalidRows(f"{folder}: {error.strerror}") from None
    if other := next((each for each in found if not each.name.startswith(PREFIX)), None):
        raise InvalidRows(
            f"{folder}: {other.name} is not named as a part ({PREFIX}…); name one file: {other}"
        )
    if not found:
        raise InvalidRows(f"{folder}: this folder has no rows: it is no data set and has no parts")
    for part in found:
        if input_form(part.name) != input_form(found[0].name):
            raise InvalidRows(
                f"{folder}: {found[0].name} and {part.name} have different forms; name one file"
            )
    return found
