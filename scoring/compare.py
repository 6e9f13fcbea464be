"""Compare two outputs row by row.

Prints each row whose relation differs: row, name, relation in A, relation in B. Then prints one JSON
object: the share of equal labels, the largest difference of a probability, and the mean over rows of the
row's largest difference. A and B can have different forms.

Example:
  python -m scoring.compare before.jsonl submission.csv --strict

Exit status: 0; 1 with --strict if a relation differs; 2 if A and B are not predictions of the same rows.
"""

import argparse
import csv
import json
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

from models.command import fail
from models.errors import UserError
from models.files.encodings import as_utf8
from models.files.errors import InputBroken
from models.files.records import lines
from models.files.sources import open_source
from models.labels import COMPETITION_RELATIONS, RELATION_IDS, RELATIONS
from scoring import parquet
from scoring.errors import Refused
from scoring.forms import COLUMNS, LabelOrder
from scoring.options import ScoringParser
from scoring.paths import can_be_read_again


def read_predictions(
    path: Path, form: str | None = None, label_order: LabelOrder = "competition"
) -> Iterator[dict[str, Any]]:
    """The lines of an output, each as in JSONL.

    Args:
        form: jsonl, csv (also of a submission) or parquet; by default the content tells.
        label_order: of a submission's probabilities.

    Raises:
        InvalidRows: it cannot be read.
        Refused: it is not an output.
    """
    with open_source(str(path)) as source:
        begins = source.head.removeprefix(BOM_UTF8).lstrip()[:4]
        form = form or (
            "parquet" if begins == b"PAR1" else "csv" if begins and begins[:1] != b"{" else "jsonl"
        )
        if form == "parquet":
            if not can_be_read_again(str(path)):
                raise Refused(f"{path}: Parquet is read from a regular file, its end first")
            predictions: Iterator[dict[str, Any]] = parquet.read_predictions(path)
        elif form == "csv":
            predictions = _from_csv(_text(source.chunks), label_order)
        else:
            predictions = map(json.loads, _text(source.chunks))
        number = 0
        try:
            for line in predictions:
                _check(line)
                yield line
                number += 1
        except (ValueError, KeyError, TypeError, RecursionError, csv.Error, InputBroken) as error:
            reason = " ".join(str(error).split())[:200]
            raise Refused(f"{path}: row {number + 1} is not a prediction: {reason}") from None


def compare(a: Iterable[dict[str, Any]], b: Iterable[dict[str, Any]], differing: TextIO) -> dict[str, Any]:
    """Compare predictions row by row.

    Args:
        differing: gets a line for each row whose relation differs.

    Raises:
        Refused: the two are not predictions of the same rows.
    """
    rows = same = compared = 0
    largest = total = 0.0
    for rows, (left, right) in enumerate(zip_longest(a, b), start=1):
        if left is None or right is None:
            raise Refused(
                f"{'A' if left is None else 'B'} ends after {rows - 1} rows, the other one continues"
            )
        for key in ("guid", "id"):
            if key in left and key in right and str(left[key]) != str(right[key]):
                raise Refused(
                    f"row {rows} is {left[key]} in A and {right[key]} in B: compare outputs of the same rows"
                )
        if left["relation"] == right["relation"]:
            same += 1
        else:
            name = next((left[key] for key in ("guid", "id") if key in left), "")
            print(rows, name, left["relation"], right["relation"], sep="\t", file=differing)
        ours, theirs = left["probabilities"], right["probabilities"]
        if both := ours.keys() & theirs.keys():
            difference = max(abs(ours[relation] - theirs[relation]) for relation in both)
            compared, largest, total = compared + 1, max(largest, difference), total + difference
    return {
        "rows": rows,
        "same_label": same,
        "label_agreement": same / rows if rows else None,
        "rows_with_probabilities": compared,
        "largest_difference": largest if compared else None,
        "mean_difference": total / compared if compared else None,
    }


def _check(line: Any) -> None:
    if isinstance(line, dict) and "relations" in line:
        raise ValueError("it holds the pairs of a sentence; compare outputs of rows with two entities")
    relation = line.get("relation") if isinstance(line, dict) else None
    if not isinstance(relation, str) or relation not in RELATION_IDS:
        raise ValueError("one of the 30 relations is required")
    probabilities = line.get("probabilities")
    if not isinstance(probabilities, dict) or not all(
        isinstance(value, float | int) for value in probabilities.values()
    ):
        raise ValueError("probabilities are required")


def _text(chunks: Iterable[bytes]) -> Iterator[str]:
    for line in lines(as_utf8(chunks, "utf-8")):
        if line.text is None:
            raise ValueError("a line is longer than a prediction can be")
        yield line.text.decode() + "\n"


def _from_csv(lines: Iterator[str], label_order: LabelOrder) -> Iterator[dict[str, Any]]:
    rows = csv.reader(lines, strict=True)
    header = tuple(next(rows, ()))
    if header not in COLUMNS.values():
        raise ValueError(f"its columns are not {' or '.join(map(','.join, COLUMNS.values()))}")
    order = COMPETITION_RELATIONS if label_order == "competition" else RELATIONS
    for cells in rows:
        line = dict(zip(header, cells, strict=True))
        if header == COLUMNS["submission"]:
            probabilities = dict(zip(order, json.loads(line["probs"]), strict=True))
            yield {"id": line["id"], "relation": line["pred_label"], "probabilities": probabilities}
        else:
            names = {key: line[key] for key in ("guid", "id") if line[key]}
            read = {
                name: json.loads(line[name]) for name in ("score", "probabilities", "members", "truncated")
            }
            yield {**names, "relation": line["relation"], **read}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ScoringParser("scoring.compare", __doc__)
    parser.add_argument("a", type=Path, metavar="A", help="an output of python -m scoring, in any form")
    parser.add_argument("b", type=Path, metavar="B", help="another output, of the same rows")
    parser.add_label_order()
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if a relation differs")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    given = _parse(argv)
    try:
        a, b = (read_predictions(path, None, given.label_order) for path in (given.a, given.b))
        summary = compare(a, b, sys.stdout)
    except UserError as error:
        return fail("scoring.compare", error)
    except BrokenPipeError:
        return UserError.exit_status
    print(json.dumps(summary))
    return 1 if given.strict and summary["same_label"] < summary["rows"] else 0


if __name__ == "__main__":
    sys.exit(main())
