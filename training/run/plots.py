"""Plots of a run, as SVG files. The same numbers give the same file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from models.labels import RELATIONS
from models.metrics import confusion_matrix

BLUE, BROWN, GREY = "#274b7a", "#b8621b", "#999999"


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot the losses, and micro-F1 and AUPRC on the validation rows, over the epochs.

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
    save(figure, path)


def draw_confusion(label_ids: NDArray[np.integer], predicted_ids: NDArray[np.integer], path: Path) -> None:
    """Plot the confusion matrix: rows by true and predicted relation, shaded by share of the true relation.
    The diagonal is framed.

    Args:
        label_ids, predicted_ids: shape (rows,).
    """
    confusion = confusion_matrix(label_ids, predicted_ids)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(11, 10.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, predicted in np.argwhere(confusion + np.eye(len(RELATIONS))):
        colour = "white" if shares[true, predicted] > 0.5 else "black"
        style = {"ha": "center", "va": "center", "fontsize": 6, "color": colour}
        axes.text(predicted, true, str(confusion[true, predicted]), **style)
    for relation in range(len(RELATIONS)):  # right predictions are framed
        frame = {"fill": False, "edgecolor": BROWN, "linewidth": 1}
        axes.add_patch(Rectangle((relation - 0.5, relation - 0.5), 1, 1, **frame))
    axes.set(title="rows by true and predicted relation", xlabel="predicted", ylabel="true")
    axes.set_xticks(range(len(RELATIONS)), RELATIONS, rotation=90, fontsize=7)
    axes.set_yticks(range(len(RELATIONS)), RELATIONS, fontsize=7)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write an SVG file without a date and with fixed ids."""
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", metadata={"Date": None})
