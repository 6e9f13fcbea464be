"""Plots of a search, as an SVG file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from training.run.plots import BLUE, BROWN, GREY, save
from training.trials.trial import Trial


def draw_trials(trials: Sequence[Trial], maximize: bool, best: int, path: Path) -> None:
    """Plot a search: the objective by trial with the best so far, by evaluation, and over each parameter.

    Args:
        maximize: whether a higher objective is better.
        best: index of the best trial.
    """
    names = list(trials[0].parameters)
    finals = [trial.objectives[-1] for trial in trials]
    columns = min(3, 2 + len(names))
    figure = Figure(figsize=(4.2 * columns, 3.4 * -(-(2 + len(names)) // columns)), layout="constrained")
    history, courses, *slices = figure.subplots(-(-(2 + len(names)) // columns), columns).flat
    history.scatter(range(len(finals)), finals, color=GREY, label="trial")
    best_so_far = (np.fmax if maximize else np.fmin).accumulate(
        [trial.objectives[-1] if trial.complete else np.nan for trial in trials]
    )
    history.step(range(len(finals)), best_so_far, where="post", color=BROWN, label="best so far")
    history.set(title="history", xlabel="trial", ylabel="objective")
    history.legend()
    for index, trial in enumerate(trials):
        colour = {"color": BROWN, "zorder": 3} if index == best else {"color": GREY}
        evaluations = range(1, len(trial.objectives) + 1)
        courses.plot(evaluations, trial.objectives, marker="o", markersize=3, linewidth=1, **colour)
    courses.set(title="by evaluation", xlabel="evaluation", ylabel="objective")
    for axes in (history, courses):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, name in zip(slices, names, strict=False):
        _draw_slice(axes, name, [trial.parameters[name] for trial in trials], finals)
    for axes in slices[len(names) :]:
        axes.remove()
    save(figure, path)


def _draw_slice(axes: Axes, name: str, values: Sequence[Any], finals: Sequence[float]) -> None:
    axes.set(title=name, ylabel="objective")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        axes.scatter(values, finals, color=BLUE)
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.scatter([_short(value) for value in values], finals, color=BLUE)
        axes.tick_params(axis="x", labelrotation=20)


def _short(value: Any) -> str:
    text = ascii(value)  # the font has no Korean characters
    return text if len(text) <= 24 else f"{text[:12]}..{text[-10:]}"
