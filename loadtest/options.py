"""The command line of a load test, and its server: started for the run, or already running elsewhere."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bodies import Body, UnusableRows, judge, make_bodies, mean_examples, read_rows
from loadtest.command import add_bundle, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.gates import DEFAULT_GATES, InvalidGates, Profile, read_profile
from loadtest.outcomes import RIGHT
from loadtest.play import PlayFailed
from loadtest.server import ROOT, StartFailed, leaving_on_sigterm, running
from loadtest.traffic import WARMUP_S, measure_window

SATURATION_CONNECTIONS, SATURATION_S = 16, 8.0
"""The closed loop that measures the saturation."""
FIRST_ANSWER_S = 30.0


class Unanswered(ValueError):
    """No server answers; the message says why."""


@dataclass(frozen=True, slots=True)
class LoadTestOptions:
    """A run that can be started.

    Attributes:
        url: of a server that already runs; None starts one.
        saturation: in examples a second; None measures it.
    """

    name: str
    profile: Profile
    bodies: list[Body]
    url: str | None
    bundle: Path | str | None
    rows: Path | None
    output: Path
    saturation: float | None

    @classmethod
    def read(cls, parser: argparse.ArgumentParser, argv: list[str] | None, folder: str) -> "LoadTestOptions":
        """Options from a command line; without `--output`, results go to `folder` in the profile's own
        folder.

        Raises:
            InvalidGates, UnusableRows: a file cannot be used.
        """
        add = parser.add_argument
        add("profile", nargs="?", default="short", help="a profile of the gates file (default: short)")
        server = parser.add_mutually_exclusive_group()
        server.add_argument("--url", help="a running server; KORE_API_KEY is sent as its token")
        add_bundle(server)
        add("--gates", type=Path, default=DEFAULT_GATES, help="gates file (default: loadtest/gates.yaml)")
        add("--rows", type=Path, help="JSONL of KLUE-RE rows to send (default: shipped sentences)")
        add("--output", type=Path, help="folder of the results (default: runs/loadtest/PROFILE)")
        add("--saturation", type=float, help="examples a second that the server bears (default: measured)")
        given = parser.parse_args(argv)
        if given.saturation is not None and not 0 < given.saturation < 1e6:
            parser.error("--saturation: give a number of examples a second between 0 and 1000000")
        profile = read_profile(given.gates, given.profile)
        return cls(
            name=given.profile,
            profile=profile,
            bodies=make_bodies(profile.traffic, read_rows(given.rows)),
            url=given.url.rstrip("/") if given.url else None,
            bundle=given.bundle,
            rows=given.rows,
            output=given.output or ROOT / "runs" / "loadtest" / given.profile / folder,
            saturation=given.saturation,
        )

    @contextmanager
    def server(self) -> Iterator[str]:
        """The URL of a server that answers; a started one is stopped at the end of the block.

        Raises:
            Unanswered: the given URL does not answer a first request rightly, or no server starts.
        """
        with ExitStack() as stack:
            if self.url is not None:
                self._ask_once(self.url)
            try:
                url = self.url or stack.enter_context(running(self.bundle)).url
            except StartFailed as error:
                reason = str(error).strip().splitlines()[-1]  # the last line of the log
                raise Unanswered(f"the server did not start: {reason}") from None
            yield url

    def measure_saturation(self, url: str) -> float:
        """Examples a second that callers without a pause get answered.

        Raises:
            Unanswered: they got no right answer.
        """
        target = _target(url)
        requests = [target.post("/relations", body.document) for body in self.bodies]
        found = asyncio.run(measure_window(target, requests, SATURATION_CONNECTIONS, WARMUP_S, SATURATION_S))
        if not found.answers:
            raise Unanswered(f"{url}: no request was answered rightly in {SATURATION_S:.0f} s")
        return found.rps * mean_examples(self.bodies)

    def _ask_once(self, url: str) -> None:
        target, body = _target(url), self.bodies[0]

        async def ask() -> tuple[int, bytes]:
            async with HttpClient(target, FIRST_ANSWER_S) as client:
                answer = await client.ask(target.post("/relations", body.document))
                return (answer.status, answer.body) if answer else (0, b"")

        status, content = asyncio.run(ask())
        if (result := judge(body, status, content)) != RIGHT:
            said = content[:200].decode(errors="replace")
            raise Unanswered(f"{url}/relations: {result}{': ' * bool(said)}{said}")


def load_test(
    run: Callable[[LoadTestOptions], int],
    argv: list[str] | None,
    module: str,
    description: str,
    example: str,
    folder: str,
) -> int:
    """Read the options of a load test and run it.

    Returns:
        The exit status: that of `run`, 2 for wrong options or a server that does not answer, 1 if Locust
        fails.
    """
    try:
        with leaving_on_sigterm():  # Locust has to be stopped then
            return run(LoadTestOptions.read(make_parser(module, description, example), argv, folder))
    except (InvalidGates, UnusableRows, Unanswered, PlayFailed) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1 if isinstance(error, PlayFailed) else 2


def _target(url: str) -> Target:
    key = os.environ.get("KORE_API_KEY")
    return Target.parse(url, {"Authorization": f"Bearer {key}"} if key else None)
