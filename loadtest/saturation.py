"""The highest rate of arrivals that holds a profile's gates: python -m loadtest.saturation [PROFILE]

1. Double or halve the rate until one rate holds the gates and one breaks them.
2. Halve the gap between the two until it is within `RESOLUTION`.

Each try is a short Locust run with the users and gates of a load test. It ends when all its requests have
ended, so that no try inherits a queue. The answer is as exact as `TRY_S` seconds of random arrivals: a few
percent.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict

from loadtest.bodies import mean_examples
from loadtest.command import conclude
from loadtest.figures import check_sent, stage_figures
from loadtest.options import LoadTestOptions, load_test
from loadtest.outcomes import PlannedStage
from loadtest.play import play

SETTLE_S, TRY_S = 3.0, 12.0
RESOLUTION = 0.05
MAX_TRIES = 16
FIRST_SHARE = 0.7
"""The first try, as a share of the closed loop's rate: gates on latency break below it."""


def search(holds: Callable[[int], bool], first: int) -> int:
    """The highest rate that holds, within `RESOLUTION` or 1; 0 if none does. Takes for granted that every
    lower rate holds too."""
    low, high, rate = 0, None, first
    for _ in range(MAX_TRIES):
        if holds(rate):
            low = rate
        else:
            high = rate
        if high is not None and high - low <= max(1, RESOLUTION * low):
            break
        rate = 2 * rate if high is None else (low + high) // 2
    return low


def main(argv: list[str] | None = None) -> int:
    description = "Find the highest rate of arrivals that holds a profile's gates."
    return load_test(run, argv, "loadtest.saturation", description, "mixed", folder="saturation")


def run(options: LoadTestOptions) -> int:
    """Search; returns 0 if some rate holds the gates, else 1."""
    gates, tries = options.profile.gates, list[dict[str, object]]()

    def holds(rate: int) -> bool:
        stages = [PlannedStage("settle", SETTLE_S, rate), PlannedStage("try", TRY_S, rate)]
        found = stage_figures(play(url, options.profile.traffic, stages, options.rows, options.output)["try"])
        due = rate * TRY_S / mean_examples(options.bodies)
        promises = gates.check(f"{rate}/s", found) | check_sent(found, due)
        kept = all(promises.values())
        tries.append({"rate": rate, "kept": kept, **asdict(found)})
        for text in promises:
            print(f"{'holds ' if promises[text] else 'breaks'}  {text}", file=sys.stderr)
        return kept

    with options.server() as url:
        closed_loop = options.saturation or options.measure_saturation(url)
        print(f"closed loop: {closed_loop:.1f} examples/s", file=sys.stderr)
        highest = search(holds, max(1, round(FIRST_SHARE * closed_loop)))
    figures = {
        "traffic": options.profile.traffic,
        "gates": gates.model_dump(exclude_none=True),
        "closed_loop_examples_per_s": round(closed_loop, 1),
        "highest_examples_per_s": highest,
        "tries": tries,
    }
    promises = {f"a rate holds the gates; the highest is {highest} examples/s": highest > 0}
    return conclude(f"saturation {options.name}", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
