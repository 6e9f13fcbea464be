"""The forms that rows have in a file, and how a file's name tells its form."""

from pathlib import Path
from typing import Final, Literal, get_args

STANDARD: Final = "-"
"""The name of standard input and of standard output."""

InputForm = Literal["json", "jsonl", "csv", "parquet", "arrow"]
INPUT_FORMS: Final[tuple[InputForm, ...]] = get_args(InputForm)

ENDINGS: Final[dict[str, InputForm]] = {
    **{f".{form}": form for form in INPUT_FORMS},
    ".ndjson": "jsonl",
    ".tsv": "csv",
    ".feather": "arrow",
}
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
    return ENDINGS.get(uncompressed(name).suffix.lower())
