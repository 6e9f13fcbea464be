"""How a process of the server ends: its exit statuses, and a clock for a process that does not end."""

import logging
import os
import sys
import threading
from typing import Final

log = logging.getLogger("kore")

USER_ERROR: Final = 2

NOT_STARTED: Final = "the server could not start; the log says why"

ENDING_S: Final = 15.0
"""How long the process can take to end after its last answer, in seconds. A bundle that loads without end, as
from a disk that stalls, is in a thread that cannot be stopped."""


def refuse(reason: str) -> int:
    """Tell the user in one line why the server cannot run; returns the exit status."""
    print(f"api: {reason}", file=sys.stderr)
    return USER_ERROR


def end_in_time() -> None:
    """Start the clock: the process exits at once if it has not ended when `ENDING_S` are over."""
    clock = threading.Timer(ENDING_S, _end)
    clock.daemon = True
    clock.start()


def leave_running_batch() -> None:
    """Exit without unloading libraries: a normal exit would unload them under a running batch."""
    logging.shutdown()
    os._exit(1)


def _end() -> None:
    log.error("the process did not end within %g s: exiting at once", ENDING_S)
    os._exit(1)
