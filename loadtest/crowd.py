"""Requests of 256 examples among 64 callers of single ones, while bundles are swapped:
python -m loadtest.crowd --bundle FOLDER

Promises: no request is lost and no answer is mixed up; while large requests are inside, single ones get their
turns; the server's counters are exact.
"""

import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.command import bundle_folder, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.outcomes import NO_ANSWER, RIGHT, WRONG_ANSWER
from loadtest.sentences import Row, make_long_rows
from loadtest.server import ServerProcess, running
from loadtest.upheaval import swap_once

CALLERS, LARGE_CALLERS = 64, 2
LARGE = 256
"""Examples in a large request; the default of `KORE_MAX_EXAMPLES`."""
ROWS = 100
SAME = 1e-4
"""The largest difference of a score: an example has the same answer alone and in any batch."""
PATIENCE = {"X-Request-Timeout": "600"}
"""Turns are fair between requests, so a large one waits for 256 turns of all callers."""

LEAST_SHARE = 0.33
"""In order of arrival single requests would get 0.11: 64 of 64 + 2 x 256 examples. Turns alone would give
them 0.97, but a batch around a single example is filled with examples of like length, most of them of large
ones."""
COUNTERS = ("kore_requests_total", "kore_answers_total", "kore_predictions_total", "kore_batch_rows_sum")

Known = Sequence[tuple[str, float]]
"""The relation of each row and its score, asked alone."""


@dataclass(slots=True)
class Crowd:
    """What the callers got: requests by result, and the examples in right answers."""

    results: dict[str, int] = field(default_factory=dict)
    singles: int = 0
    examples: int = 0

    def add(self, status: int, body: bytes, known: Known) -> None:
        result = str(status) if status else NO_ANSWER
        if status == 200:
            answer = json.loads(body)
            predictions = answer.get("predictions", [answer])
            result = RIGHT if _equal(predictions, known) else WRONG_ANSWER
            self.examples += len(predictions)
            self.singles += len(known) == 1
        self.results[result] = self.results.get(result, 0) + 1


def _equal(predictions: list[dict[str, Any]], known: Known) -> bool:
    return len(predictions) == len(known) and all(
        prediction["relation"] == relation and abs(prediction["score"] - score) <= SAME
        for prediction, (relation, score) in zip(predictions, known, strict=True)
    )


async def ask_alone(target: Target, rows: Sequence[Row]) -> Known:
    """The answer of each row while nothing else runs."""
    known = []
    async with HttpClient(target) as client:
        for row in rows:
            answer = await client.ask(target.post("/relations", row))
            assert answer is not None, "an idle server did not answer"
            prediction = json.loads(answer.body)
            known.append((prediction["relation"], prediction["score"]))
    return known


async def crowd(
    server: ServerProcess, path: Path, bundles: Sequence[Path], seconds: float
) -> tuple[dict[str, Any], dict[str, bool]]:
    """1. Ask each row alone.
    2. Let all callers ask for `seconds`, and swap to each bundle meanwhile.
    3. Stop them, and compare the counters with what they got.
    """
    target, rows = Target.parse(server.url), make_long_rows(ROWS)
    known = await ask_alone(target, rows)
    singles = [target.post("/relations", row, PATIENCE) for row in rows]
    stop, found = asyncio.Event(), Crowd()

    async def call(client: HttpClient, place: int) -> None:
        for row in itertools.cycle([*range(place, ROWS), *range(place)]):
            answer = await client.ask(singles[row])
            found.add(answer.status if answer else 0, answer.body if answer else b"", known[row : row + 1])
            if stop.is_set():
                return

    async def call_large(client: HttpClient, place: int) -> None:
        asked = [(place + number) % ROWS for number in range(LARGE)]
        request = target.post("/relations", {"examples": [rows[row] for row in asked]}, PATIENCE)
        while not stop.is_set():
            answer = await client.ask(request)
            body = answer.body if answer else b""
            found.add(answer.status if answer else 0, body, [known[row] for row in asked])

    def counts() -> dict[str, int]:
        return {metric: round(server.metric(metric)) for metric in COUNTERS}

    before = await asyncio.to_thread(counts)
    async with HttpClient(target, answer_timeout_s=900) as client:
        callers = [asyncio.create_task(call(client, place)) for place in range(CALLERS)]
        large = [asyncio.create_task(call_large(client, place)) for place in range(LARGE_CALLERS)]
        for number, bundle in enumerate(bundles, start=1):
            await asyncio.sleep(seconds / (len(bundles) + 1))
            await swap_once(server, path, bundle, number)
        await asyncio.sleep(seconds / (len(bundles) + 1))
        ran = await asyncio.to_thread(server.metric, "kore_batch_rows_sum")
        run = round(ran) - before["kore_batch_rows_sum"]
        singles_share = found.singles / max(1, run)
        stop.set()
        await asyncio.gather(*callers, *large)
    after = await asyncio.to_thread(counts)
    counted = {metric: after[metric] - before[metric] for metric in after}
    figures = {
        "callers": {"single": CALLERS, f"of {LARGE}": LARGE_CALLERS},
        "swaps": len(bundles),
        "by_status": found.results,
        "examples": found.examples,
        "share_of_single_requests": round(singles_share, 3),
        "counted": counted,
    }
    promises = {
        "every request is answered rightly": found.results.keys() == {RIGHT},
        f"while large requests are inside, {LEAST_SHARE} of the examples that run are of single ones": (
            singles_share >= LEAST_SHARE
        ),
        "the counters are exact": counted
        == dict.fromkeys(COUNTERS, found.examples) | {"kore_requests_total": sum(found.results.values())},
    }
    return figures, promises


def trial(bundle: Path, seconds: float) -> tuple[dict[str, Any], dict[str, bool]]:
    with tempfile.TemporaryDirectory() as scratch:
        path, copy = Path(scratch) / "current", Path(scratch) / "copy"
        path.symlink_to(bundle)
        shutil.copytree(bundle, copy)
        with running(path, tuning_s=0) as server:
            return asyncio.run(crowd(server, path, [copy, bundle], seconds))


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "loadtest.crowd",
        "Send large requests among many single ones, and swap bundles meanwhile.",
        "--bundle bundles/default",
    )
    parser.add_argument("--bundle", type=bundle_folder, required=True, help="folder of the bundle to serve")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20,
        help="seconds under load, without the swaps (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    return conclude("crowd", *trial(arguments.bundle, arguments.seconds))


if __name__ == "__main__":
    sys.exit(main())
