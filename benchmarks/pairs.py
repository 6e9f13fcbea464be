"""What all pairs of a sentence cost in one request, and singly: python -m benchmarks.pairs

1. Start a server. Make sentences of eight entities, five of which can be subjects: 35 pairs.
2. In each round, ask all sentences in three ways: all pairs in one request; each pair in a request of its
   own, one after the other; and the same on 16 connections at a time.
3. Take the ratios within a round, since a machine's speed drifts, and of them the median.
"""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from itertools import permutations
from statistics import median
from typing import Any, Final

import uvloop

from loadtest.command import add_bundle, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.sentences import COMPANIES, CONTEXT, DATES, PEOPLE, PLACES, TITLES
from loadtest.server import leaving_on_sigterm, running
from loadtest.traffic import LOOPBACK, make_requests

MOST: Final = 0.8
"""Share of the time of single requests, one after the other, that one request for all pairs can take."""
TEMPLATE: Final = "{}의 대표이사 {}과 {} {}은 {}에 결혼하였고, {}에 본부를 둔 {}의 회장 {}이 축하하였다. {}"
TYPES: Final = ("ORG", "PER", "POH", "PER", "DAT", "LOC", "ORG", "PER")


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.pairs",
        "Compare one request for all pairs of a sentence with single requests.",
        "--sentences 5 --rounds 1",
    )
    add_bundle(parser)
    parser.add_argument("--sentences", type=int, default=10, help="sentences (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements of each way (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    generator = random.Random(3)
    sentences = [make_sentence(generator) for _ in range(arguments.sentences)]
    singles = [single for sentence in sentences for single in split(sentence)]
    with leaving_on_sigterm(), running(arguments.bundle) as server:
        together, singly = make_requests(server.port, sentences), make_requests(server.port, singles)
        rounds = uvloop.run(measure(server.port, together, singly, arguments.rounds))
    shares = {way: [one["together"] / one[way] for one in rounds] for way in ("one by one", "16 at a time")}
    figures = {
        "sentences": len(sentences),
        "pairs": len(singles),
        "seconds": {way: round(median(one[way] for one in rounds), 2) for way in rounds[0]},
        "share_of": {way: round(median(ratios), 3) for way, ratios in shares.items()},
        "shares_of_one_by_one": [round(ratio, 2) for ratio in shares["one by one"]],
    }
    promise = f"all pairs in one request take at most {MOST} of the time of single requests"
    return conclude("pairs", figures, {promise: median(shares["one by one"]) <= MOST})


def make_sentence(generator: random.Random) -> dict[str, Any]:
    """A request for a sentence of eight entities. No word occurs twice."""
    people, companies = generator.sample(PEOPLE, 3), generator.sample(COMPANIES, 2)
    title, date, place = (generator.choice(words) for words in (TITLES, DATES, PLACES))
    words = (companies[0], people[0], title, people[1], date, place, companies[1], people[2])
    entities = [{"word": word, "type": type_} for word, type_ in zip(words, TYPES, strict=True)]
    return {"sentence": TEMPLATE.format(*words, generator.choice(CONTEXT)), "entities": entities}


def split(sentence: dict[str, Any]) -> list[dict[str, Any]]:
    """The sentence's pairs, as requests of their own."""
    return [
        {"sentence": sentence["sentence"], "subject_entity": subject, "object_entity": object_}
        for subject, object_ in permutations(sentence["entities"], 2)
        if subject["type"] in ("PER", "ORG")
    ]


async def measure(
    port: int, together: Sequence[bytes], singly: Sequence[bytes], rounds: int
) -> list[dict[str, float]]:
    """The seconds of each way in each round, after one round that does not count."""
    measured = []
    async with HttpClient(Target(LOOPBACK, port)) as client:
        for number in range(rounds + 1):
            measured.append(
                {
                    "together": await seconds_of(client, together, connections=1),
                    "one by one": await seconds_of(client, singly, connections=1),
                    "16 at a time": await seconds_of(client, singly, connections=16),
                }
            )
            print(f"round {number} of {rounds}", file=sys.stderr)
    return measured[1:]


async def seconds_of(client: HttpClient, requests: Sequence[bytes], connections: int) -> float:
    left = iter(requests)

    async def call() -> None:
        for request in left:
            answer = await client.ask(request)
            if answer is None or answer.status != 200:
                raise RuntimeError(f"a request got no prediction: {answer and answer.body!r}")

    began = time.monotonic()
    await asyncio.gather(*(call() for _ in range(connections)))
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
