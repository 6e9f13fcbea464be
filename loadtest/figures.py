"""What the requests of a stage add up to: latencies, errors, and how late they were sent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.arrivals import RIGHT, Arrival
from loadtest.traffic import percentile

LATE_S = 0.010
"""A request sent more than this after it was due is late: the sender was busy."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One stage. Latencies are milliseconds from the scheduled time, of the requests that were answered rightly; all others are errors.
    None where there is nothing to tell them from."""

    requests: int
    examples_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    error_share: float | None
    outcomes: dict[str, int]
    late_sends: int
    late_p99_ms: float | None


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
        error_share=1 - outcomes[RIGHT] / len(arrivals) if arrivals else None,
        outcomes=dict(sorted(outcomes.items())),
        late_sends=sum(late_s > LATE_S for late_s in lateness_s),
        late_p99_ms=_percentile_ms(lateness_s, 99),
    )


def _rate(arrivals: Sequence[Arrival]) -> float | None:
    """Examples a second that were due, from the first arrival to the last."""
    times = [arrival.due_s for arrival in arrivals]
    if len(times) < 2:
        return None
    examples = sum(arrival.examples for arrival in arrivals) * (len(times) - 1) / len(times)  # that many gaps lie between them
    return round(examples / (max(times) - min(times)), 1)


def _percentile_ms(seconds: Sequence[float], percent: float) -> float | None:
    return round(1000 * percentile(seconds, percent), 1) if seconds else None


def table(stages: Mapping[str, Figures]) -> str:
    """The stages side by side, for a terminal."""
    lines = [f"{'stage':<12}{'examples/s':>11}{'requests':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'errors':>9}{'late':>7}  outcomes"]
    for name, found in stages.items():
        rate, p50, p95, p99 = (
            "-" if value is None else f"{value:.1f}" for value in (found.examples_per_s, found.p50_ms, found.p95_ms, found.p99_ms)
        )
        errors = "-" if found.error_share is None else f"{found.error_share:.2%}"
        outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in found.outcomes.items())
        lines.append(f"{name:<12}{rate:>11}{found.requests:>10}{p50:>9}{p95:>9}{p99:>9}{errors:>9}{found.late_sends:>7}  {outcomes}")
    return "\n".join(lines)


def describe_late_sends(lateness_s: Sequence[float]) -> str:
    """One line on how well the sender kept its schedule."""
    late = sum(late_s > LATE_S for late_s in lateness_s)
    p99_ms = _percentile_ms(lateness_s, 99)
    return f"{late} of {len(lateness_s)} requests were sent more than {1000 * LATE_S:.0f} ms late; 99 % within {p99_ms} ms"
