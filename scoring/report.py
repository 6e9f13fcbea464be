"""The report on labelled rows: one HTML file that needs no other file."""

from collections.abc import Mapping, Sequence

from models.report_page import page, paragraph, quality, section, table
from scoring.evaluation import Evaluation
from scoring.mistakes import Mistake, as_table


def render(
    title: str, facts: Mapping[str, object], evaluation: Evaluation, mistakes: Sequence[Mistake] = ()
) -> str:
    """The page.

    Args:
        title: names the output.
        facts: more lines for the first table, by name.
        mistakes: wrong predictions to show, most confident first.
    """
    headline = {
        "micro-F1 (without no_relation)": f"{evaluation.micro_f1:.2f}",
        "AUPRC": f"{evaluation.auprc:.2f}",
        "accuracy": f"{100 * evaluation.accuracy:.2f} %",
        "calibration error": f"{100 * evaluation.reliability.calibration_error:.2f} %",
        "labelled rows": f"{evaluation.rows:,}",
    }
    return page(
        title,
        table([], [[name, str(value)] for name, value in (headline | dict(facts)).items()]),
        *quality(evaluation.confusion, evaluation.reliability),
        section(
            "The most confident mistakes",
            paragraph(
                "The wrong predictions with the highest scores. The subject is marked blue, the object "
                "orange. A label can be wrong too."
            )
            + as_table(mistakes)
            if mistakes
            else paragraph("No prediction is wrong."),
        ),
    )
