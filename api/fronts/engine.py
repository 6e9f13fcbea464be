"""The engine's life when fronts do the HTTP: `python -m api.fronts.engine`, started by the supervisor.

1. Listen on the Unix socket. Fronts connect at any time.
2. Load the bundle, prove it, and tell the fronts. A bundle that must not be served ends the process with 2.
3. Answer the fronts until the order to leave, or until the supervisor's pipe ends.
4. Drain: requests are taken for a while, then the fronts release the bundle after their last answers.
5. End the lanes, then the process.
"""

import asyncio
import logging
import os
import shutil
import sys
from pathlib import Path

from api.fronts.child import Child, run


async def live(child: Child) -> int:
    """The steps of this file; returns the exit status."""
    from api.ending import end_in_time, leave_running_batch, refuse
    from api.fronts.fronts import Fronts
    from api.fronts.orders import listen_to
    from api.service import RelationService

    log = logging.getLogger("kore")
    refusals: list[str] = []
    ended = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only
    leaving = False

    def refuse_bundle(reason: str) -> None:
        refusals.append(reason)
        ended.set()

    async def leave(delay_s: float) -> None:
        log.info("draining: requests are taken for %g s more", delay_s)
        await service.drain(delay_s, child.settings.drain_grace_s)
        ended.set()

    def obey(order: str) -> None:
        nonlocal leaving
        word, _, seconds = order.partition(" ")
        if word == "swap":
            tasks.add(asyncio.create_task(service.swap()))
        elif not leaving:
            leaving = True
            tasks.add(asyncio.create_task(leave(float(seconds))))
        elif fronts.busy or ended.is_set():
            log.error("exiting at once")
            os._exit(1)  # a thread inside ONNX Runtime cannot be interrupted
        else:
            ended.set()

    def supervisor_gone() -> None:
        shutil.rmtree(Path(child.socket).parent, ignore_errors=True)  # it cannot do it any more
        if not leaving:
            obey("leave 0")

    service = RelationService(child.settings, refuse_bundle)
    fronts = Fronts(service)
    listener = await asyncio.get_running_loop().create_unix_server(fronts.connect, child.socket)
    listen_to(child.orders, obey, supervisor_gone)
    loading = asyncio.create_task(service.load())
    await ended.wait()
    end_in_time()
    listener.close()
    await loading
    await service.close()
    fronts.close()
    if service.stuck:
        leave_running_batch()
    return refuse(refusals[0]) if refusals else 0


def main(argv: list[str] | None = None) -> int:
    return run(live, argv)


if __name__ == "__main__":
    sys.exit(main())
