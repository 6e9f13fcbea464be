"""The forms that predictions have in a file, and how a file's name tells its form."""

from typing import Final, Literal, get_args

from models.files.forms import STANDARD, uncompressed

OutputForm = Literal["jsonl", "csv", "parquet", "submission"]
OUTPUT_FORMS: Final[tuple[OutputForm, ...]] = get_args(OutputForm)
LabelOrder = Literal["competition", "klue"]
"""In which order a submission lists the 30 probabilities."""
LABEL_ORDERS: Final[tuple[LabelOrder, ...]] = get_args(LabelOrder)

COLUMNS: Final[dict[OutputForm, tuple[str, ...]]] = {
    "csv": ("guid", "id", "relation", "score", "probabilities", "members", "truncated"),
    "submission": ("id", "pred_label", "probs"),
}
"""The header of each form that has one."""


def output_form(name: str) -> OutputForm | None:
    """The form of an output by its name, or `None` if the name does not tell. Standard output gets JSON
    lines."""
    path = uncompressed(name)
    if name == STANDARD:
        return "jsonl"
    if path.name.startswith("submission.") and path.suffix.lower() == ".csv":
        return "submission"
    ending = path.suffix.lower().removeprefix(".")
    return next((form for form in OUTPUT_FORMS if form == ending), None)
