"""From measurements to a verdict: medians over the rounds, gates, the table."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Literal

from loadtest.traffic import Measurement

CONNECTIONS: Final = (1, 16, 64)

SAME_RELATIONS: Final = 0.99
"""Least share of the rows with the same relation from two servers. It should be all: answers do not depend on
the batch."""

MEDIANS: Final = ("rps", "p50_ms", "p95_ms", "p99_ms", "generator_cpu_ms")

Kind = Literal["ours", "served", "fronts", "plain", "bounded", "batch 16", "pair", "best", "classifier"]
"""`ours` lets every member vote, as the peers do; `served` has the cascade, as users have it; `fronts` has
two front processes. A `pair` has two workers, to be compared with `fronts`. A `classifier` runs another model
of the same size: it has no gates, and its relations are not compared."""

Ours = Literal["ours", "served", "fronts"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A server's place in the comparison.

    Attributes:
        kind: decides its gates.
        peer: its name on the command line.
        figures: by number of connections; empty if it never started.
        agreement: share of the rows with the same relation as ours, of those that both answered.
        relabelled: answers that gave a row another relation than an earlier one of the same server.
        failures: the reason of each failed start.
    """

    kind: Kind
    peer: str
    title: str
    configuration: str
    figures: Mapping[int, Measurement]
    agreement: float | None
    relabelled: int
    failures: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit on our figure over another server's: at least for requests a second, at most for latencies."""

    figure: Literal["rps", "p99_ms"]
    connections: int
    limit: float
    of: Ours = "ours"

    def holds(self, ratio: float) -> bool:
        return ratio >= self.limit if self.figure == "rps" else ratio <= self.limit


Rules = Mapping[Kind, tuple[Rule, ...]]

RULES: Final[Rules] = {
    "plain": (
        Rule("rps", 1, 1.0),
        Rule("rps", 16, 1.0),
        Rule("rps", 64, 1.0),
        Rule("p99_ms", 16, 0.8),
        Rule("rps", 16, 1.7, "served"),
    ),
    "bounded": (Rule("rps", 1, 1.0), Rule("rps", 16, 1.0), Rule("rps", 64, 1.0)),
    "batch 16": (
        Rule("rps", 16, 2.2),
        Rule("rps", 64, 2.2),
        Rule("p99_ms", 16, 0.5),
        Rule("rps", 16, 3.5, "served"),
    ),
    "best": (Rule("rps", 16, 1.0), Rule("rps", 64, 1.0)),
}

_AHEAD = (Rule("rps", 16, 1.0), Rule("rps", 64, 1.0))

OVERHEAD_RULES: Final[Rules] = {
    "batch 16": _AHEAD,
    "best": _AHEAD,
    "pair": (Rule("rps", 16, 0.8, "fronts"), Rule("rps", 64, 0.8, "fronts")),
}
"""With models that cost nothing."""

RUST: Final = frozenset({"mosec"})
"""Their HTTP is Rust: with models that cost nothing, 0.8 of them is enough."""


OURS: Final[dict[Ours, str]] = {"ours": "", "served": " as served", "fronts": " with two fronts"}


@dataclass(frozen=True, slots=True)
class Gate:
    """A rule for one server. Without figures of both servers there is no ratio, and the gate does not
    hold."""

    rule: Rule
    against: str
    ratio: float | None

    @property
    def holds(self) -> bool:
        return self.ratio is not None and self.rule.holds(self.ratio)

    def __str__(self) -> str:
        figure, bound = ("requests a second", "at least") if self.rule.figure == "rps" else ("p99", "at most")
        ratio = "no figure" if self.ratio is None else f"{self.ratio:.2f}"
        whose = f"{figure}{OURS[self.rule.of]} at {self.rule.connections}"
        return f"{whose} over {self.against}: {ratio} ({bound} {self.rule.limit:g})"


def summarise(measurements: Sequence[Measurement]) -> dict[int, Measurement]:
    """By number of connections: the medians over the rounds, and the errors of all rounds."""
    figures = {}
    for connections in sorted({measurement.connections for measurement in measurements}):
        rounds = [measurement for measurement in measurements if measurement.connections == connections]
        errors: Counter[str] = sum((Counter(one.errors) for one in rounds), Counter())
        medians = {figure: _median(rounds, figure) for figure in MEDIANS}
        figures[connections] = replace(rounds[0], **medians, errors=dict(sorted(errors.items())), labels={})
    return figures


def _median(rounds: Sequence[Measurement], figure: str) -> float | None:
    known = [value for one in rounds if (value := getattr(one, figure)) is not None]
    return median(known) if known else None


def merge_labels(measurements: Sequence[Measurement]) -> tuple[dict[int, str], int]:
    """The relation that each row got first, and the number of later answers with another one."""
    labels: dict[int, str] = {}
    relabelled = 0
    for one in measurements:
        relabelled += one.relabelled + sum(
            labels.setdefault(row, label) != label for row, label in one.labels.items()
        )
    return labels, relabelled


def agreement(labels: Mapping[int, str], reference: Mapping[int, str]) -> float | None:
    """Share of the rows with the same relation, of those that both answered; `None` without such rows."""
    common = labels.keys() & reference.keys()
    return sum(labels[row] == reference[row] for row in common) / len(common) if common else None


def judge(
    standings: Sequence[Standing], levels: Collection[int] = CONNECTIONS, overhead: bool = False
) -> list[Gate]:
    """The gates of these servers at these numbers of connections; none of a server of ours that is not among
    them.

    Args:
        overhead: the models cost nothing.
    """
    ours = {standing.kind: standing for standing in standings if standing.kind in OURS}
    rules = OVERHEAD_RULES if overhead else RULES
    return [
        Gate(
            replace(rule, limit=0.8) if overhead and standing.peer in RUST else rule,
            f"{standing.title} ({name_configuration(standing)})",
            _ratio(rule, ours[rule.of], standing),
        )
        for standing in standings
        for rule in rules.get(standing.kind, ())
        if rule.of in ours and rule.connections in levels
    ]


def name_configuration(standing: Standing) -> str:
    """Its use of the cores, and whether it is the best that was found."""
    return f"{standing.configuration}{', its best' * (standing.kind == 'best')}"


def comparable(standings: Sequence[Standing]) -> dict[str, bool]:
    """Whether each server did all of the work, and the same work as ours, as sentences: only then do its
    figures count. As served, rows stop early, and a classifier runs another model: their relations are not
    compared."""
    verdicts = {}
    for one in standings:
        answered = bool(one.figures) and not any(level.errors for level in one.figures.values())
        promise, same = "it started and answered every request", not one.relabelled
        if one.kind not in ("served", "classifier"):
            promise += ", with the same relations as ours"
            same = same and (one.agreement or 0.0) >= SAME_RELATIONS
        verdicts[f"{one.title}, {one.configuration}: {promise}"] = answered and same and not one.failures
    return verdicts


def table(standings: Sequence[Standing], name: str) -> str:
    """Markdown: a line for each server, with an anchor to link to (`NAME-peer-kind`)."""
    levels = sorted({level for one in standings for level in one.figures})
    columns = [
        f"{figure}, {level}{' connections' * (level == levels[-1])}"
        for figure in ("requests/s", "p99 ms")
        for level in levels
    ]
    head = ["server", "configuration", *columns, "same relation as ours", "problems"]
    lines = [_line(head), _line(["---"] * len(head))]
    taken: Counter[str] = Counter()
    for one in standings:
        anchor = f"{name}-{one.peer}" + f"-{one.kind.replace(' ', '-')}" * (one.kind != one.peer)
        taken[anchor] += 1
        anchor += f"-{taken[anchor]}" * (taken[anchor] > 1)
        figures = [one.figures.get(level) for level in levels]
        lines.append(
            _line(
                [
                    f'<a id="{anchor}"></a>{one.title}',
                    name_configuration(one),
                    *(_shown(level and level.rps) for level in figures),
                    *(_shown(level and level.p99_ms) for level in figures),
                    "-" if one.agreement is None else f"{one.agreement:.2%}",
                    _problems(one),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def gate_table(gates: Sequence[Gate]) -> str:
    """Markdown: a line for each gate."""
    lines = [_line(["our figure over another server's", "holds"]), _line(["---"] * 2)]
    return (
        "\n".join([*lines, *(_line([str(gate), "yes" if gate.holds else "**no**"]) for gate in gates)]) + "\n"
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _problems(standing: Standing) -> str:
    errors: Counter[str] = sum((Counter(one.errors) for one in standing.figures.values()), Counter())
    kinds = ", ".join(f"{count} × {error}" for error, count in sorted(errors.items()))
    notes = [
        (len(standing.failures), f"failed starts: {_reason(standing.failures)}"),
        (errors.total(), f"errors ({kinds})"),
        (standing.relabelled, "changed relations"),
    ]
    return ", ".join(f"{count} {what}" for count, what in notes if count) or "none"


def _ratio(rule: Rule, ours: Standing, theirs: Standing) -> float | None:
    if rule.connections not in ours.figures or rule.connections not in theirs.figures:
        return None
    dividend, divisor = (
        getattr(standing.figures[rule.connections], rule.figure) for standing in (ours, theirs)
    )
    return dividend / divisor if dividend is not None and divisor else None


def _reason(failures: Sequence[str]) -> str:
    """The last line of the first failure that names an error, fit for a cell of the table; else the last
    line."""
    lines = [line.strip() for line in failures[0].splitlines() if line.strip()] if failures else []
    named = [line for line in lines if re.search(r"\w(Error|Exception|NotFound)\b", line)]
    last = (named or lines or ["no reason given"])[-1]
    return f"`{re.sub('[|`]', '/', last)[:200]}`"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"
