"""`python -m api`. It handles signals before anything heavy is imported, which takes a second: process 1, as
in a container, would lose an early SIGTERM, and an early reload signal would kill it."""

import os
import signal
import sys


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the bundle has not been read yet
    from api.settings import read_settings
    from engine.cores import available_cores
    from models.memory import collect_seldom, few_heaps

    arguments = sys.argv[1:] if argv is None else argv
    settings = read_settings(arguments)  # before the heavy imports
    few_heaps(available_cores())
    collect_seldom()
    if settings.http_processes:
        from api.fronts.supervisor import supervise

        return supervise(settings, arguments)
    from api.lifecycle import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
