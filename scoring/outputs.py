"""Predictions as text: JSON lines, CSV, or the competition's submission; and plain or compressed, window by
window.

Each window is compressed as a gzip member or zstd frame of its own, so that an output that was cut off at a
window's end is whole.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from models.example import Prediction
from models.labels import COMPETITION_TO_OFFICIAL
from scoring.errors import Refused
from scoring.rows import Row
from scoring.sources import STANDARD, zstd_library

OutputForm = Literal["jsonl", "csv", "parquet", "submission"]
OUTPUT_FORMS: Final[tuple[OutputForm, ...]] = get_args(OutputForm)
LabelOrder = Literal["competition", "klue"]
LABEL_ORDERS: Final[tuple[LabelOrder, ...]] = get_args(LabelOrder)

CSV_COLUMNS: Final = ("guid", "id", "relation", "score", "probabilities", "members")
SUBMISSION_COLUMNS: Final = ("id", "pred_label", "probs")

Answers = Sequence[tuple[Row, Prediction]]


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns answers into the bytes of an output.

    Attributes:
        form: what the output is in the end; Parquet is written as JSON lines first, and made of them when all
            rows are there.
        top_k: how many probabilities a row lists, highest first; a submission lists all 30.
        label_order: in which order a submission lists them.
        compress: for a window's bytes.
    """

    form: OutputForm
    top_k: int
    label_order: LabelOrder
    compress: Callable[[bytes], bytes]

    def header(self) -> bytes:
        """What comes before the first row."""
        columns = {"csv": CSV_COLUMNS, "submission": SUBMISSION_COLUMNS}.get(self.form)
        return self.compress(_csv([columns]) if columns else b"")

    def lines(self, answers: Answers) -> bytes:
        """One line for each answer."""
        if not answers:
            return b""
        if self.form == "submission":
            return self.compress(_csv([self._submitted(row, prediction) for row, prediction in answers]))
        documents = [_document(row, prediction, self.top_k) for row, prediction in answers]
        if self.form == "csv":
            cells = [
                document | {"probabilities": json.dumps(document["probabilities"])} for document in documents
            ]
            return self.compress(
                _csv([[document.get(column, "") for column in CSV_COLUMNS] for document in cells])
            )
        return self.compress(json_lines(documents))

    def _submitted(self, row: Row, prediction: Prediction) -> list[object]:
        probabilities = prediction.probabilities.tolist()
        if self.label_order == "competition":
            probabilities = [probabilities[index] for index in COMPETITION_TO_OFFICIAL]
        name = row.id if row.id is not None else row.guid if row.guid is not None else row.number - 1
        return [name, prediction.relation, probabilities]


def json_lines(documents: Sequence[dict[str, object]]) -> bytes:
    """Documents as JSON lines in UTF-8."""
    return "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents).encode(
        "utf-8", "backslashreplace"
    )


def choose_writer(output: str, form: OutputForm | None, top_k: int, label_order: LabelOrder) -> Writer:
    """The writer for an output, by what its name ends in where no form is given; JSON lines on standard
    output.

    Raises:
        Refused: the name tells no form, the form cannot be compressed, or a library is missing.
    """
    path = Path(output)
    packed = path.suffix.lower() if path.suffix.lower() in (".gz", ".zst") else ""
    ending = (path.with_suffix("") if packed else path).suffix.lower().removeprefix(".")
    form = form or ("jsonl" if output == STANDARD else _form_by_ending(path, ending))
    if form is None:
        raise Refused(
            f"{output}: its ending tells no form (.jsonl, .csv, .parquet; .gz or .zst after the first two): give --to"
        )
    if form == "parquet":
        from scoring.parquet import require

        require(output)
        if packed or output == STANDARD:
            raise Refused(f"{output}: Parquet is written to a plain file")
    return Writer(form, top_k, label_order, _compression(packed, output))


def _form_by_ending(path: Path, ending: str) -> OutputForm | None:
    if ending == "csv" and path.name.startswith("submission."):
        return "submission"
    return next((form for form in OUTPUT_FORMS if form == ending), None)


def _compression(packed: str, output: str) -> Callable[[bytes], bytes]:
    if packed == ".gz":
        return lambda data: gzip.compress(data, 6, mtime=0)
    return zstd_library(output).ZstdCompressor().compress if packed else bytes


def _document(row: Row, prediction: Prediction, top_k: int) -> dict[str, object]:
    """The fields of HTTP's prediction, after what the row is called."""
    names: dict[str, object] = {
        key: value for key, value in (("guid", row.guid), ("id", row.id)) if value is not None
    }
    return names | prediction.document(top_k)


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    plain, quoted = (
        csv.writer(text, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for row in rows:
        # Left to itself the module quotes a line feed, but not a carriage return, which would end the row for
        # whoever reads it.
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in row) else plain).writerow(row)
    return text.getvalue().encode()
