"""Why a run failed. The user sees each error as one line; `__main__` gives it an exit status.

Refused        the user's error: no row was scored, or the scored rows are kept for --resume     2
Stopped        the run could not continue: a bad row under --strict, or the engine failed        1
InputBroken    the input cannot be read to its end: the rows before are scored                   1
"""


class Refused(Exception):
    """An error that the user can correct; the message says how."""


class Stopped(Exception):
    """The run ends here, without an output."""


class InputBroken(Exception):
    """The input cannot be read to its end.

    Attributes:
        line: where it breaks off, counted from 1, if this is known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
