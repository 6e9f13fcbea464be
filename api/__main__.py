"""The door of `python -m api`. It takes the signals before anything else is imported, which takes a second: process 1, as a container's is,
would lose a SIGTERM that comes before there is a handler."""

import os
import signal
import sys


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    nohup = False
    if hasattr(signal, "SIGHUP"):
        # until there is a bundle to swap
        nohup = signal.signal(signal.SIGHUP, signal.SIG_IGN) is signal.SIG_IGN
    from api.command import serve

    return serve(sys.argv[1:] if argv is None else argv, nohup)


if __name__ == "__main__":
    sys.exit(main())
