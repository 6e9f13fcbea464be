"""Why a run failed. The user sees each error as one line; `__main__` gives it an exit status.

Refused        the user's error: no row was scored, or the scored rows are kept for --resume     2
Stopped        the run could not continue: a bad row under --strict, or the engine failed        1
InputBroken    (models.files.errors) the input cannot be read to its end: the rows before are scored   1
"""


class Refused(Exception):
    """An error that the user can correct; the message says how."""


class Stopped(Exception):
    """The run ends here, without an output."""
