"""Why a file of rows cannot be used."""

from models.errors import UserError


class InvalidRows(UserError, ValueError):
    """A file of rows that cannot be used. The message names the file, the fault and what to do."""


class InputBroken(Exception):
    """The file cannot be read to its end.

    Attributes:
        line: where it breaks off, counted from 1, if this is known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
