"""The highest rate of arrivals that holds a profile's gates: python -m loadtest.saturation [PROFILE]; the options are those of `loadtest`.

Doubles or halves the rate until one holds and one does not, then halves what lies between them. Each try is a
short run of Locust with the
users and gates of a load test: starting Locust costs three seconds a try, and saves a second way of sending
and judging. Every try ends only when all its requests have, so none inherits a queue. The answer is as sure
as `TRY_S` seconds of random arrivals: a few percent.
"""

import sys
from collections.abc import Callable

from loadtest.arrivals import PlannedStage
from loadtest.bodies import mean_examples
from loadtest.figures import came, measure
from loadtest.options import Options, command
from loadtest.play import play
from loadtest.verdict import conclude

SETTLE_S, TRY_S = 3.0, 12.0
RESOLUTION = 0.05
MAX_TRIES = 16
FIRST_SHARE = 0.7
"""The first try, as a share of what a closed loop gets answered: gates on latency are broken well before
everything is."""


def search(holds: Callable[[int], bool], first: int) -> int:
    """The highest rate that holds, within `RESOLUTION` (or 1, if that is more), as if every lower rate held
    too; 0 if none does."""
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
    description = "Find the highest rate that holds a profile's gates."
    return command(run, argv, "python -m loadtest.saturation", description, folder="saturation")


def run(options: Options) -> int:
    """Search; returns 0 if some rate holds the gates, else 1."""
    gates, tries = options.profile.gates, []

    def holds(rate: int) -> bool:
        stages = [PlannedStage("settle", SETTLE_S, rate), PlannedStage("try", TRY_S, rate)]
        found = measure(play(url, options.profile.traffic, stages, options.rows, options.output)["try"])
        promises = gates.check(f"{rate}/s", found) | came(found, rate * TRY_S / mean_examples(options.bodies))
        kept = all(promises.values())
        tries.append(
            {
                "rate": rate,
                "kept": kept,
                "p50_ms": found.p50_ms,
                "p95_ms": found.p95_ms,
                "p99_ms": found.p99_ms,
            }
        )
        tries[-1] |= {
            "error_share": found.error_share,
            "refused_share": found.refused_share,
            "late_sends": found.late_sends,
        }
        for text in promises:
            print(f"{'holds ' if promises[text] else 'breaks'}  {text}", file=sys.stderr)
        return kept

    with options.server() as url:
        closed_loop = options.measure_saturation(url)
        print(f"closed loop: {closed_loop:.1f} examples/s", file=sys.stderr)
        highest = search(holds, max(1, round(FIRST_SHARE * closed_loop)))
    figures = {
        "traffic": options.profile.traffic,
        "gates": gates.model_dump(exclude_none=True),
        "closed_loop_examples_per_s": round(closed_loop, 1),
        "highest_examples_per_s": highest,
        "tries": tries,
    }
    return conclude(
        f"saturation {options.name}",
        figures,
        {f"a rate holds the gates; the highest is {highest} examples/s": highest > 0},
    )


if __name__ == "__main__":
    sys.exit(main())
