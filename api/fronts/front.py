"""A front's life: `python -m api.fronts.front`, started by the supervisor.

1. Connect to the engine. If it serves a bundle already, load the encoders first.
2. Listen on the shared port, and answer requests with the engine's help.
3. When the supervisor closes the pipe, send the last answers and end.
"""

import os
import sys
from contextlib import suppress

from api.fronts.child import Child, run


async def live(child: Child) -> int:
    """The steps of this file; returns the exit status."""
    import uvicorn

    from api.app import create_app
    from api.connection import configure
    from api.ending import NOT_STARTED, end_in_time, refuse
    from api.fronts.orders import listen_to
    from api.fronts.remote import RemoteService
    from api.listening import WRONG_ADDRESS, address_in_use, listen
    from api.tracing import TracingUnavailable, from_environment

    server: uvicorn.Server | None = None

    def end() -> None:
        if server is None:
            os._exit(0)
        end_in_time()
        server.should_exit = True

    listen_to(child.orders, lambda order: None, end)
    service = RemoteService(child.settings, child.socket)
    await service.settle()
    try:
        tracing = from_environment()
        listener = listen(child.settings, shared=True)
    except TracingUnavailable as error:
        return refuse(str(error))
    except WRONG_ADDRESS as error:
        return refuse(address_in_use(child.settings, error))
    server = uvicorn.Server(configure(create_app(service, tracing), child.settings))
    with suppress(SystemExit):  # uvicorn's own, with status 3, if the start fails
        await server.serve([listener])
    return 0 if server.started else refuse(NOT_STARTED)


def main(argv: list[str] | None = None) -> int:
    return run(live, argv)


if __name__ == "__main__":
    sys.exit(main())
