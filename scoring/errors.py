"""How a run ends that does not end well. Each is one plain line for the user; `__main__` says which exit
status it has.

Refused        the user's error: nothing was scored, or what was scored is kept for --resume    2
Stopped        the run could not go on: a bad row under --strict, an engine that failed         1
InputBroken    the input ends before it is whole: what came before is scored                    1
"""


class Refused(Exception):
    """Something that the user can put right; the message says what."""


class Stopped(Exception):
    """The run ends here, without an output."""


class InputBroken(Exception):
    """The input cannot be read to its end.

    Attributes:
        line: where it breaks off, counted from 1, if that is known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
