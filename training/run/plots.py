"""Pictures of runs and searches, as SVG: the same figures give the same file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from models.labels import RELATIONS

BLUE, BROWN, GREY = "#274b7a", "#b8621b", "#999999"


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Losses, and micro-F1 and AUPRC on the validation rows, over the epochs.

    Args:
        history: the Trainer's log.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    for axes, name, label, colour, mark in [
        (losses, "loss", "training", BLUE, ""),
        (losses, "eval_loss", "validation", BROWN, "o"),
        (metrics, "eval_micro_f1", "micro-F1", BLUE, "o"),
        (metrics, "eval_auprc", "AUPRC", BROWN, "o"),
    ]:
        points = [(entry["epoch"], entry[name]) for entry in history if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=mark, label=label)
    for axes, title in ((losses, "loss"), (metrics, "validation rows")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(color="#dddddd")
        axes.legend()
    _save(figure, path)


def draw_confusion(label_ids: NDArray[np.integer], predicted_ids: NDArray[np.integer], path: Path) -> None:
    """How many rows of each true relation got which relation; the shade is the share of the true relation's
    rows.

    Args:
        label_ids, predicted_ids: shape (rows,).
    """
    confusion = np.zeros((len(RELATIONS), len(RELATIONS)), dtype=np.int64)
    np.add.at(confusion, (label_ids, predicted_ids), 1)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(11, 10.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, predicted in np.argwhere(confusion):
        colour = "white" if shares[true, predicted] > 0.5 else "black"
        axes.text(
            predicted,
            true,
            str(confusion[true, predicted]),
            ha="center",
            va="center",
            fontsize=6,
            color=colour,
        )
    axes.set(title="rows by true and predicted relation", xlabel="predicted", ylabel="true")
    axes.set_xticks(range(len(RELATIONS)), RELATIONS, rotation=90, fontsize=7)
    axes.set_yticks(range(len(RELATIONS)), RELATIONS, fontsize=7)
    _save(figure, path)


def draw_trials(
    trials: Sequence[tuple[Sequence[float], Mapping[str, Any], bool]], maximize: bool, best: int, path: Path
) -> None:
    """A search: the trials' objectives in order and the best so far, their courses, and the objective over
    each parameter.

    Args:
        trials: of each, its objective by epoch (at least one), its parameters, and whether it ran to its end:
            only then it can be the best.
        maximize: whether higher is better.
        best: index of the best trial.
    """
    names = list(trials[0][1])
    finals = [course[-1] for course, _, _ in trials]
    columns = min(3, 2 + len(names))
    figure = Figure(figsize=(4.2 * columns, 3.4 * -(-(2 + len(names)) // columns)), layout="constrained")
    history, courses, *slices = figure.subplots(-(-(2 + len(names)) // columns), columns).flat
    history.scatter(range(len(finals)), finals, color=GREY, label="trial")
    best_so_far = (np.fmax if maximize else np.fmin).accumulate(
        [course[-1] if complete else np.nan for course, _, complete in trials]
    )
    history.step(range(len(finals)), best_so_far, where="post", color=BROWN, label="best so far")
    history.set(title="history", xlabel="trial", ylabel="objective")
    history.legend()
    for index, (course, _, _) in enumerate(trials):
        emphasis = {"color": BROWN, "zorder": 3} if index == best else {"color": GREY}
        courses.plot(range(1, len(course) + 1), course, marker="o", markersize=3, linewidth=1, **emphasis)
    courses.set(title="courses", xlabel="evaluation", ylabel="objective")
    for axes in (history, courses):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, name in zip(slices, names, strict=False):
        _draw_slice(axes, name, [parameters[name] for _, parameters, _ in trials], finals)
    for axes in slices[len(names) :]:
        axes.remove()
    _save(figure, path)


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
    text = ascii(value)  # the font knows no Korean
    return text if len(text) <= 24 else f"{text[:12]}..{text[-10:]}"


def _save(figure: Figure, path: Path) -> None:
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", metadata={"Date": None})
