"""The figures of a stage's requests: latencies, errors, and how late they were sent. The only percentile."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.outcomes import REFUSED, RIGHT, Outcome, by_result

LATE_S = 0.010
"""A request is late if the sender sent it more than this after it was due."""

SENT = 0.95
"""Share of the due requests that a sender must send: a slower one measures itself, not the server."""


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One stage. Latencies are in milliseconds, from the time at which a request was due, of right answers.
    429 counts as refused, every other result as an error. None where there is no request to count."""

    requests: int
    examples_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    error_share: float | None
    refused_share: float | None
    outcomes: dict[str, int]
    late_sends: int
    late_p99_ms: float | None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank); None of none."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else None


def percentile_ms(seconds: Sequence[float], percent: float) -> float | None:
    """A percentile of seconds, in milliseconds, to a hundredth."""
    value = percentile(seconds, percent)
    return None if value is None else round(1000 * value, 2)


def check_sent(found: StageFigures, due: float) -> dict[str, bool]:
    """Whether the sender sent the requests that were due, as a sentence.

    Args:
        due: the mean number of requests that are due. The real number is a Poisson process's: it is sometimes
            a little smaller.
    """
    least = SENT * due - 4 * math.sqrt(due)
    return {f"{found.requests} requests were sent, {due:.0f} were due": found.requests >= least}


def check_spike(name: str, found: StageFigures, saturation: float) -> dict[str, bool]:
    """Whether a stage that is planned above the saturation was above it, as a sentence."""
    rate = found.examples_per_s or 0.0
    return {
        f"{name}: {rate:.1f} examples/s arrived; a spike must exceed the saturation, {saturation:.1f}": rate
        > saturation
    }


def stage_figures(outcomes: Sequence[Outcome]) -> StageFigures:
    """The figures of requests that belong together."""
    latencies_s = [outcome.seconds for outcome in outcomes if outcome.result == RIGHT]
    lateness_s = [outcome.late_s for outcome in outcomes]
    results = by_result(outcomes)
    refused = results.get(REFUSED, 0)
    errors = len(outcomes) - len(latencies_s) - refused
    return StageFigures(
        requests=len(outcomes),
        examples_per_s=_rate(outcomes),
        p50_ms=percentile_ms(latencies_s, 50),
        p95_ms=percentile_ms(latencies_s, 95),
        p99_ms=percentile_ms(latencies_s, 99),
        error_share=errors / len(outcomes) if outcomes else None,
        refused_share=refused / len(outcomes) if outcomes else None,
        outcomes=results,
        late_sends=sum(late_s > LATE_S for late_s in lateness_s),
        late_p99_ms=percentile_ms(lateness_s, 99),
    )


def _rate(outcomes: Sequence[Outcome]) -> float | None:
    """Examples a second that were due, from the first request to the last."""
    times = [outcome.due_s for outcome in outcomes]
    if len(times) < 2:
        return None
    # n requests have n - 1 gaps between them
    examples = sum(outcome.examples for outcome in outcomes) * (len(times) - 1) / len(times)
    return round(examples / (max(times) - min(times)), 1)


def describe_late_sends(lateness_s: Sequence[float]) -> str:
    """One line on how well the sender kept its schedule."""
    late = sum(late_s > LATE_S for late_s in lateness_s)
    p99_ms = percentile_ms(lateness_s, 99)
    limit_ms = 1000 * LATE_S
    return (
        f"{late} of {len(lateness_s)} requests were sent over {limit_ms:.0f} ms late; 99 % within {p99_ms} ms"
    )


def table(stages: Mapping[str, StageFigures]) -> str:
    """A line for each stage, for a terminal."""
    names = ("examples/s", "requests", "p50 ms", "p95 ms", "p99 ms", "refused", "errors", "late")
    lines = [f"{'stage':<12}{''.join(f'{name:>11}' for name in names)}  outcomes"]
    for name, found in stages.items():
        numbers = (found.examples_per_s, found.requests, found.p50_ms, found.p95_ms, found.p99_ms)
        cells = ["-" if number is None else f"{number}" for number in numbers]
        cells += [
            "-" if share is None else f"{share:.2%}" for share in (found.refused_share, found.error_share)
        ]
        outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in found.outcomes.items())
        lines.append(f"{name:<12}{''.join(f'{cell:>11}' for cell in [*cells, found.late_sends])}  {outcomes}")
    return "\n".join(lines)
