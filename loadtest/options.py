"""What a load test is told on the command line, checked, and the server that it asks: one started for it, or
one that runs elsewhere."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtest.bodies import Body, InvalidRows, judge, make_bodies, mean_examples, read_rows
from loadtest.gates import DEFAULT_GATES, InvalidGates, Profile, read_profile
from loadtest.play import PlayFailed
from loadtest.server import DEFAULT_BUNDLE, ROOT, StartFailed, leaving_on_sigterm, running
from loadtest.traffic import saturation

SATURATION_S = 8.0
"""Seconds of the closed loop that measures the saturation."""
FIRST_ANSWER_S = 30.0


class Unanswered(ValueError):
    """There is no server to ask; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """A run that can be started. `saturation` is in examples a second, None to measure it."""

    name: str
    profile: Profile
    bodies: list[Body]
    url: str | None
    bundle: Path
    rows: Path | None
    output: Path
    saturation: float | None

    @classmethod
    def read(cls, parser: argparse.ArgumentParser, argv: list[str] | None, folder: str) -> "Options":
        """Options from a command line; results go to `folder` of the profile's own folder, if nothing else is
        said.

        Raises:
            InvalidGates, InvalidRows: a file cannot be used.
            Unanswered: there is no bundle to serve.
        """
        server = parser.add_mutually_exclusive_group()
        server.add_argument(
            "--url", help="a server that runs already; one is started by default (KORE_API_KEY: its token)"
        )
        server.add_argument(
            "--bundle", type=Path, default=DEFAULT_BUNDLE, help="what the started server serves"
        )
        parser.add_argument(
            "profile", nargs="?", default="short", help="a profile of the gates file; short by default"
        )
        parser.add_argument(
            "--gates",
            type=Path,
            default=DEFAULT_GATES,
            help="profiles, stages and gates; loadtest/gates.yaml by default",
        )
        parser.add_argument(
            "--rows", type=Path, help="JSONL of KLUE-RE rows to ask; sentences of our own by default"
        )
        parser.add_argument(
            "--output", type=Path, help="folder of the results; runs/loadtest/PROFILE by default"
        )
        parser.add_argument(
            "--saturation",
            type=float,
            help="take this many examples a second as the saturation, and do not measure it",
        )
        given = parser.parse_args(argv)
        if given.saturation is not None and not 0 < given.saturation < 1e6:
            parser.error("--saturation: a number of examples a second is required")
        profile = read_profile(given.gates, given.profile)
        bodies = make_bodies(profile.traffic, read_rows(given.rows))
        if given.url is None and not given.bundle.is_dir():
            raise Unanswered(f"{given.bundle}: no such bundle")
        output = given.output or ROOT / "runs" / "loadtest" / given.profile / folder
        url = given.url.rstrip("/") if given.url else None
        return cls(
            given.profile, profile, bodies, url, given.bundle.resolve(), given.rows, output, given.saturation
        )

    @contextmanager
    def server(self) -> Iterator[str]:
        """The URL of a server that answers, for as long as the run lasts; one that was started for it is
        stopped in the end.

        Raises:
            Unanswered: the given URL does not answer a first request as it should, or the bundle is refused.
        """
        with ExitStack() as stack:
            if self.url is not None:
                _ask_once(self.url, self.bodies[0])
                url = self.url
            else:
                try:
                    url = stack.enter_context(running(self.bundle)).url
                except StartFailed as error:  # its last line is the reason
                    raise Unanswered(
                        f"the server did not start: {str(error).strip().splitlines()[-1]}"
                    ) from None
            yield url

    def measure_saturation(self, url: str) -> float:
        """Examples a second that callers get answered who ask without a pause.

        Raises:
            Unanswered: they got no answer.
        """
        if self.saturation is not None:
            return self.saturation
        documents = [body.document for body in self.bodies]
        measured = mean_examples(self.bodies) * asyncio.run(
            saturation(url, documents, seconds=SATURATION_S, headers=_token())
        )
        if not measured:
            raise Unanswered(f"{url}: not one request was answered rightly in {SATURATION_S:.0f} s")
        return measured


def command(
    run: Callable[[Options], int], argv: list[str] | None, prog: str, description: str, folder: str
) -> int:
    """A load test's command line: reads the options, runs; returns the exit status: 2 if it was asked for
    wrongly, 1 if the run failed."""
    try:
        with leaving_on_sigterm():  # so that Locust is stopped then, too
            return run(
                Options.read(argparse.ArgumentParser(prog=prog, description=description), argv, folder)
            )
    except (InvalidGates, InvalidRows, Unanswered, PlayFailed) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1 if isinstance(error, PlayFailed) else 2


def _ask_once(url: str, body: Body) -> None:
    try:
        answer = httpx.post(f"{url}/relations", json=body.document, headers=_token(), timeout=FIRST_ANSWER_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unanswered(f"{url}: {error}") from None
    outcome = judge(body, answer.status_code, answer.content)
    if outcome != "200":
        raise Unanswered(f"{url}/relations: {outcome}: {answer.text[:200]}")


def _token() -> dict[str, str]:
    key = os.environ.get("KORE_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}
