"""The forms that rows and predictions have in a file, and how a file's name tells its form."""

from pathlib import Path
from typing import Final, Literal, get_args

STANDARD: Final = "-"
"""The name of standard input and of standard output."""

InputForm = Literal["json", "jsonl", "csv", "parquet"]
INPUT_FORMS: Final[tuple[InputForm, ...]] = get_args(InputForm)
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

COMPRESSED: Final = (".gz", ".zst")


def compression(name: str) -> str:
    """`.gz` or `.zst` if the name ends in it, else an empty string."""
    ending = Path(name).suffix.lower()
    return ending if ending in COMPRESSED else ""


def uncompressed(name: str) -> Path:
    """The name without the ending of its compression."""
    return Path(name).with_suffix("") if compression(name) else Path(name)


def input_form(name: str) -> InputForm | None:
    """The form of an input by its name, or `None` if the name does not tell."""
    ending = uncompressed(name).suffix.lower().removeprefix(".").replace("ndjson", "jsonl")
    return next((form for form in INPUT_FORMS if form == ending), None)


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
