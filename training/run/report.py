"""The report of a run: one HTML file with its curves, predictions, recipe and versions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.metrics import confusion_matrix, reliability
from models.report_page import code, page, paragraph, picture, quality, section, table
from training.data.files import write
from training.run.predictions import Predictions
from training.run.record import EPOCHS, PACKAGES, RECIPE, REPORT, RUN


def write_report(folder: Path, metrics: Mapping[str, Any], predictions: Predictions, curves: str) -> None:
    """Write the report of a run into its folder, from the record that is there.

    Args:
        folder: of the run, with recipe.yaml and run.json.
        metrics: as metrics.json has them.
        predictions: for the rows that the metrics count.
        curves: the plot of losses and metrics, SVG.
    """
    run = json.loads((folder / RUN).read_bytes())
    confusion = confusion_matrix(predictions.label_ids, predictions.predicted_ids)
    made = reliability(predictions.label_ids, predictions.probabilities)
    parts = [
        table([], facts(metrics, run)),
        section("Curves", picture(curves), _epochs(folder / EPOCHS)),
        *quality(confusion, made),
        section("Recipe", code((folder / RECIPE).read_text(encoding="utf-8"))),
        section("Versions", table([], [[name, run["packages"].get(name, "–")] for name in PACKAGES])),
    ]
    write(folder / REPORT, page(f"Run {folder.name}", *parts))


def facts(metrics: Mapping[str, Any], run: Mapping[str, Any]) -> list[list[str]]:
    """The lines of the first table: metrics, rows, machine and code."""
    lines = [
        ["micro-F1 (without no_relation)", f"{metrics['micro_f1']:.2f}"],
        ["AUPRC", f"{metrics['auprc']:.2f}"],
        ["validation rows", f"{metrics['rows']:,}"],
    ]
    for name, title in (("all_rows", "all rows"), ("apart_rows", "rows whose sentence is not trained on")):
        if part := metrics.get(name):
            figures = f"micro-F1 {part['micro_f1']:.2f}, AUPRC {part['auprc']:.2f}"
            lines.append([title, f"{figures}, {part['rows']:,} rows"])
    machine, code_of_run = run["machine"], run["code"]
    lines += [
        ["training rows, with new ones", f"{run['rows']:,}"],
        ["seed", str(run["seed"])],
        ["began (UTC)", run["began"]],
        ["machine", f"{machine['device']}, {machine['threads']} threads, {machine['platform']}"],
    ]
    lines += [[f"{name}, SHA-256", data["sha256"]] for name, data in run["data"].items()]
    if code_of_run:
        changed = ", with changes (run.json has them)" if code_of_run["changed"] else ""
        lines.append(["commit", code_of_run["commit"] + changed])
    return lines


def _epochs(path: Path) -> str:
    """The metrics of each evaluation as a table."""
    if not path.exists():
        return paragraph("The run was evaluated once, after its last step.")
    epochs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return table(list(epochs[0]), [[_number(value) for value in epoch.values()] for epoch in epochs])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def write_vote_report(folder: Path, ensemble: Mapping[str, Any], predictions: Predictions) -> None:
    """Write the report of an ensemble into its folder.

    Args:
        ensemble: as ensemble.json has it.
        predictions: of the vote, for the validation rows.
    """
    members = [
        [member["folder"], f"{member['weight']:.4f}", f"{each['micro_f1']:.2f}", f"{each['auprc']:.2f}"]
        for member, each in zip(ensemble["members"], ensemble["validation"]["each"], strict=True)
    ]
    metrics = predictions.metrics
    confusion = confusion_matrix(predictions.label_ids, predictions.predicted_ids)
    parts = [
        table(
            [], [["micro-F1 of the vote", f"{metrics['micro_f1']:.2f}"], ["AUPRC", f"{metrics['auprc']:.2f}"]]
        ),
        section("Members", table(["member", "weight", "micro-F1", "AUPRC"], members)),
        *quality(confusion, reliability(predictions.label_ids, predictions.probabilities)),
    ]
    write(folder / REPORT, page(f"Ensemble {folder.name}", *parts))
