"""The report of a load test: one HTML file that needs no other file. Gates and verdict come first."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from loadtest.figures import StageFigures, percentile_ms
from loadtest.outcomes import REFUSED, RIGHT, Outcome, PlannedStage
from models.report_page import page, paragraph, picture, section, table

HEADER: Final = (
    *("stage", "seconds", "planned", "arrived", "answered", "requests"),
    *("p50", "p95", "p99", "refused", "errors", "sent late"),
)


@dataclass(frozen=True, slots=True)
class LoadTestReport:
    """What a load test found.

    Attributes:
        promises: sentence -> whether it was kept.
        saturation: examples a second before and after the stages; empty where no rate is a share of it.
        outcomes: by stage, in the order in which the stages ran.
    """

    name: str
    promises: Mapping[str, bool]
    stages: Sequence[PlannedStage]
    figures: Mapping[str, StageFigures]
    outcomes: Mapping[str, Sequence[Outcome]]
    saturation: Sequence[float]

    def render(self) -> str:
        """The page."""
        broken = sum(not kept for kept in self.promises.values())
        verdict = f"Passed: all {len(self.promises)} gates hold."
        if broken:
            verdict = f"Failed: {broken} of {len(self.promises)} gates are broken."
        gates = [[text, "holds" if kept else "BROKEN"] for text, kept in self.promises.items()]
        return page(
            f"Load test {self.name}",
            f'<p class="{"broken" if broken else "kept"}">{verdict}</p>',
            section("Gates", table(["gate", "result"], gates)),
            section(
                "Stages, in the order in which they ran",
                table(HEADER, [self._line(stage) for stage in self.stages]),
                paragraph(
                    "Rates are in examples a second. Latencies are in milliseconds, from the time at which a "
                    "request was due, of right answers."
                ),
                paragraph(self._saturation()),
            ),
            section("Over time", self._plot()),
        )

    def _saturation(self) -> str:
        if not self.saturation:
            return "The saturation was not measured, because every stage has a fixed rate."
        before, after = self.saturation
        return f"Saturation: {before:.1f} examples a second before the stages, {after:.1f} after them."

    def _line(self, stage: PlannedStage) -> list[str]:
        found = self.figures[stage.name]
        began_s, ended_s = self._span(stage)
        answered = [one for each in self.outcomes.values() for one in each if one.result == RIGHT]
        examples = sum(one.examples for one in answered if began_s <= one.answered_s < ended_s)
        rates = [stage.seconds, stage.rate, found.examples_per_s, examples / stage.seconds]
        latencies = [found.requests, found.p50_ms, found.p95_ms, found.p99_ms]
        shares = [found.refused_share, found.error_share]
        cells = ["–" if number is None else f"{number:,.5g}" for number in [*rates, *latencies]]
        cells += ["–" if share is None else f"{100 * share:.2f} %" for share in shares]
        return [stage.name, *cells, str(found.late_sends)]

    def _span(self, stage: PlannedStage) -> tuple[float, float]:
        """When a stage began and ended, on the clock of its outcomes."""
        began_s = min((one.due_s for one in self.outcomes[stage.name]), default=0.0)
        return began_s, began_s + stage.seconds

    def _plot(self) -> str:
        """Latencies and rates by the second, with the stages shaded, as SVG."""
        from matplotlib.figure import Figure  # slow to import

        outcomes = sorted((one for each in self.outcomes.values() for one in each), key=_second)
        seconds = [(second, list(each)) for second, each in groupby(outcomes, _second)]
        first = seconds[0][0] if seconds else 0
        times = [second - first for second, _ in seconds]
        figure = Figure(figsize=(10, 6), layout="constrained")
        latency, rate = figure.subplots(2, 1, sharex=True)
        for number, stage in enumerate(self.stages):
            began_s, ended_s = (time - first for time in self._span(stage))
            for axes in (latency, rate):
                axes.axvspan(began_s, ended_s, color=f"C{number}", alpha=0.12, linewidth=0)
            latency.annotate(stage.name, (began_s, 1.01), xycoords=("data", "axes fraction"))
        for percent in (50, 99):
            taken = [
                percentile_ms([one.seconds for one in each if one.result == RIGHT], percent)
                for _, each in seconds
            ]
            latency.plot(times, [float("nan") if ms is None else ms for ms in taken], label=f"p{percent}")
        for label, results in (("arrived", None), ("answered", {RIGHT}), ("refused", {REFUSED})):
            counts = [
                sum(one.examples for one in each if results is None or one.result in results)
                for _, each in seconds
            ]
            rate.plot(times, counts, label=label)
        for name, value in zip(("before", "after"), self.saturation, strict=False):
            rate.axhline(
                value, color="grey", linestyle="--" if name == "before" else ":", label=f"saturation {name}"
            )
        latency.set(yscale="log", ylabel="latency in ms")
        rate.set(
            xlabel="seconds; each request counts in the second in which it was due",
            ylabel="examples a second",
        )
        for axes in (latency, rate):
            axes.legend(loc="upper right", fontsize="small")
        image = io.StringIO()
        figure.savefig(image, format="svg")
        return picture(image.getvalue())


def _second(outcome: Outcome) -> int:
    return int(outcome.due_s)
