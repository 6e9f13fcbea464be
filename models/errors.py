"""The base of every error that a user can fix."""

from typing import ClassVar


class UserError(Exception):
    """The message says what is wrong, where, and what to do. A command prints it on one line and ends with
    `exit_status`."""

    exit_status: ClassVar[int] = 2
