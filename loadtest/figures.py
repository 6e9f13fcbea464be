"""What the requests of a stage add up to: latencies, errors, and how late they were sent."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.arrivals import REFUSED, RIGHT, Arrival
from loadtest.traffic import percentile

LATE_S = 0.010
"""A request sent more than this after it was due is late: the sender was busy."""

SENT = 0.95
"""A sender that sends less of what is due says nothing of a server."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One stage. Latencies are milliseconds from the scheduled time, of the requests that were answered
    rightly; the others were refused (429) or are errors. None where there is nothing to tell them from."""

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


def came(found: Figures, due: float) -> dict[str, bool]:
    """Whether the sender sent what was due, as a sentence: what a sender that is too slow never sends, no
    figure tells of.

    Args:
        due: requests that should have come on average; their number is a Poisson process's, so a few less
            come now and then.
    """
    least = SENT * due - 4 * math.sqrt(due)
    return {f"{found.requests} requests were sent, {due:.0f} were due": found.requests >= least}


def measure(arrivals: Sequence[Arrival]) -> Figures:
    """The figures of requests that belong together."""
    latencies_s = [arrival.seconds for arrival in arrivals if arrival.outcome == RIGHT]
    lateness_s = [arrival.late_s for arrival in arrivals]
    outcomes = Counter(arrival.outcome for arrival in arrivals)
    return Figures(
        requests=len(arrivals),
        examples_per_s=_rate(arrivals),
        p50_ms=_percentile_ms(latencies_s, 50),
        p95_ms=_percentile_ms(latencies_s, 95),
        p99_ms=_percentile_ms(latencies_s, 99),
        error_share=1 - (outcomes[RIGHT] + outcomes[REFUSED]) / len(arrivals) if arrivals else None,
        refused_share=outcomes[REFUSED] / len(arrivals) if arrivals else None,
        outcomes=dict(sorted(outcomes.items())),
        late_sends=sum(late_s > LATE_S for late_s in lateness_s),
        late_p99_ms=_percentile_ms(lateness_s, 99),
    )


def _rate(arrivals: Sequence[Arrival]) -> float | None:
    """Examples a second that were due, from the first arrival to the last."""
    times = [arrival.due_s for arrival in arrivals]
    if len(times) < 2:
        return None
    # that many gaps lie between them
    examples = sum(arrival.examples for arrival in arrivals) * (len(times) - 1) / len(times)
    return round(examples / (max(times) - min(times)), 1)


def _percentile_ms(seconds: Sequence[float], percent: float) -> float | None:
    return round(1000 * percentile(seconds, percent), 1) if seconds else None


def table(stages: Mapping[str, Figures]) -> str:
    """The stages side by side, for a terminal."""
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


def describe_late_sends(lateness_s: Sequence[float]) -> str:
    """One line on how well the sender kept its schedule."""
    late = sum(late_s > LATE_S for late_s in lateness_s)
    p99_ms = _percentile_ms(lateness_s, 99)
    return f"{late} of {len(lateness_s)} requests were sent more than {1000 * LATE_S:.0f} ms late; 99 % within {p99_ms} ms"
