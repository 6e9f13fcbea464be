"""Predictions as bytes: JSON lines, CSV or the competition's submission, plain or compressed.

Each window is compressed as a gzip member or zstd frame of its own. So an output that is cut at the end of
a window is whole.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from models.encoding import EncodedExample
from models.example import Example, InvalidExample, Prediction, Problem
from models.files.forms import STANDARD, compression
from models.files.sources import zstd_library
from models.files.tables import pyarrow_part
from models.labels import COMPETITION_TO_OFFICIAL
from models.pairs import Pairs
from scoring.errors import Refused
from scoring.forms import COLUMNS, LabelOrder, OutputForm, output_form
from scoring.options import ScoringOptions
from scoring.rows import Encode, Row

Answers = Sequence[tuple[Row, list[Prediction]]]
"""Rows with the prediction of each of their examples."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns answers into the bytes of an output.

    Attributes:
        form: of the output. Parquet is written as JSON lines first, and converted when all rows are there.
        top_k: probabilities per row, highest first; a submission lists all 30.
        label_order: in which order a submission lists them.
        compress: for the bytes of a window.
    """

    form: OutputForm
    top_k: int
    label_order: LabelOrder
    compress: Callable[[bytes], bytes]

    def admitting(self, encode: Encode) -> Encode:
        """The same function, which refuses pairs where the form has no place for them."""

        def encode_admitted(asked: Example | Pairs) -> list[EncodedExample]:
            if isinstance(asked, Pairs) and self.form != "jsonl":
                message = "a row with entities is written as JSONL only; name an OUTPUT that ends in .jsonl"
                raise InvalidExample(Problem(("entities",), "form", message))
            return encode(asked)

        return encode_admitted

    def header(self) -> bytes:
        """The bytes before the first row."""
        return self.compress(_csv([COLUMNS[self.form]]) if self.form in COLUMNS else b"")

    def lines(self, answers: Answers) -> bytes:
        """One line for each answer."""
        if not answers:
            return b""
        if self.form == "submission":
            return self.compress(_csv([self._submitted(row, prediction) for row, [prediction] in answers]))
        documents = [_document(row, predictions, self.top_k) for row, predictions in answers]
        if self.form != "csv":
            return self.compress(json_lines(documents))
        for document in documents:
            for key in ("probabilities", "truncated"):
                document[key] = json.dumps(document[key])
        return self.compress(
            _csv([[document.get(column, "") for column in COLUMNS["csv"]] for document in documents])
        )

    def _submitted(self, row: Row, prediction: Prediction) -> list[object]:
        probabilities = prediction.probabilities.tolist()
        if self.label_order == "competition":
            probabilities = [probabilities[index] for index in COMPETITION_TO_OFFICIAL]
        name = row.id if row.id is not None else row.guid if row.guid is not None else row.number - 1
        return [name, prediction.relation, probabilities]


def choose_writer(options: ScoringOptions) -> Writer:
    """The writer for an output.

    Raises:
        Refused: the name does not tell the form, or the form cannot be compressed.
        InvalidRows: a library is missing.
    """
    output, packed = options.output, compression(options.output)
    form = options.output_form or output_form(output)
    if form is None:
        raise Refused(
            f"{output}: its ending tells no form: .jsonl or .csv (then .gz or .zst) or .parquet; or give --to"
        )
    if form == "parquet":
        pyarrow_part("pyarrow.parquet", output)
        if packed or output == STANDARD:
            raise Refused(f"{output}: Parquet is written to a plain file; name one that ends in .parquet")
    compress: Callable[[bytes], bytes] = bytes
    if packed == ".gz":
        compress = partial(gzip.compress, compresslevel=6, mtime=0)
    elif packed:
        compress = zstd_library(output).ZstdCompressor().compress
    return Writer(form, options.top_k, options.label_order, compress)


def json_lines(documents: Sequence[dict[str, object]]) -> bytes:
    """Documents as JSON lines in UTF-8."""
    return encoded("".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents))


def encoded(text: str) -> bytes:
    """Text as UTF-8. A file name that is not UTF-8 is written with escapes."""
    return text.encode("utf-8", "backslashreplace")


def _document(row: Row, predictions: list[Prediction], top_k: int) -> dict[str, object]:
    """The fields of the answer over HTTP, after the names of the row."""
    names: dict[str, object] = {
        key: value for key, value in (("guid", row.guid), ("id", row.id)) if value is not None
    }
    return names | (row.pairs.document(predictions, top_k) if row.pairs else predictions[0].document(top_k))


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # by default the module quotes a line feed, but not a carriage return, which would end the row for a
        # reader
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in row) else plain).writerow(row)
    return text.getvalue().encode()
