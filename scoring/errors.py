"""Why a run failed. The user sees each error as one line.

Refused        the user's error: no row was scored, or the scored rows are kept for --resume     2
Stopped        the run could not continue: a bad row under --strict, or the engine failed        1
InputBroken    (models.files.errors) the input cannot be read to its end: the rows before are scored   1
"""

from models.errors import UserError


class Refused(UserError):
    """An error that the user can correct; the message says how."""


class Stopped(UserError):
    """The run ends here, without an output."""

    exit_status = 1
