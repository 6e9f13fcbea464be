"""Compare two outputs row by row: python -m scoring.compare A B

Prints each row whose relation differs (row, name, relation in A, relation in B), then one JSON object: the
share of equal labels, and, where both list a relation's probability, the largest difference of any and the
mean over rows of a row's largest. Any two forms can be compared; of submissions the order of labels must be
told where it is not the competition's.

Exit status: 0; 1 with --strict where a relation differs; 2 when the two are not predictions of the same rows.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from models.labels import COMPETITION_RELATIONS, RELATION_IDS, RELATIONS
from scoring import parquet
from scoring.errors import InputBroken, Refused
from scoring.outputs import CSV_COLUMNS, LABEL_ORDERS, SUBMISSION_COLUMNS, LabelOrder
from scoring.records import MAX_ROW_BYTES
from scoring.sources import can_be_read_again, open_source

TOO_LONG: Final = "a line is longer than a prediction can be"


def read_predictions(
    path: Path, form: str | None = None, label_order: LabelOrder = "competition"
) -> Iterator[dict[str, Any]]:
    """The lines of an output, each as JSONL has it.

    Args:
        form: jsonl, csv (also of a submission) or parquet; by default what the file begins with says.
        label_order: of a submission's probabilities.

    Raises:
        Refused: it cannot be read, or is no output.
    """
    with open_source(str(path)) as source:
        begins = source.head.lstrip()[:4]
        form = form or (
            "parquet" if begins == b"PAR1" else "csv" if begins and begins[:1] != b"{" else "jsonl"
        )
        if form == "parquet":
            if not can_be_read_again(str(path)):
                raise Refused(f"{path}: Parquet is read from a regular file, its end first")
            lines: Iterator[dict[str, Any]] = parquet.read_predictions(path)
        elif form == "csv":
            lines = _from_csv(_text(source.chunks), label_order)
        else:
            lines = map(json.loads, _text(source.chunks))
        number = 0
        try:
            for line in lines:
                _check(line)
                yield line
                number += 1
        except (ValueError, KeyError, TypeError, RecursionError, csv.Error, InputBroken) as error:
            raise Refused(
                f"{path}: after row {number} there is no prediction: {' '.join(str(error).split())[:200]}"
            ) from None


def compare(
    a: Iterable[dict[str, Any]], b: Iterable[dict[str, Any]], differing: io.TextIOBase | Any
) -> dict[str, Any]:
    """Compare predictions row by row.

    Args:
        differing: where a line for each row goes whose relation differs.

    Raises:
        Refused: the two are not of the same rows.
    """
    rows = same = compared = 0
    largest = total = 0.0
    for rows, (left, right) in enumerate(zip_longest(a, b), start=1):
        if left is None or right is None:
            raise Refused(f"{'A' if left is None else 'B'} ends after {rows - 1} rows, the other one goes on")
        for key in ("guid", "id"):
            if key in left and key in right and str(left[key]) != str(right[key]):
                raise Refused(
                    f"row {rows} is {left[key]} in A and {right[key]} in B: these are not predictions of the same rows"
                )
        if left["relation"] == right["relation"]:
            same += 1
        else:
            name = next((left[key] for key in ("guid", "id") if key in left), "")
            print(rows, name, left["relation"], right["relation"], sep="\t", file=differing)
        both = left["probabilities"].keys() & right["probabilities"].keys()
        if both:
            difference = max(
                abs(left["probabilities"][relation] - right["probabilities"][relation]) for relation in both
            )
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
    if (
        not isinstance(line, dict)
        or not isinstance(relation := line.get("relation"), str)
        or relation not in RELATION_IDS
    ):
        raise ValueError("one of the 30 relations is required")
    probabilities = line.get("probabilities")
    if not isinstance(probabilities, dict) or not all(
        isinstance(value, float | int) for value in probabilities.values()
    ):
        raise ValueError("probabilities are required")


def _text(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() + "\n" for line in lines)
        if len(rest) > MAX_ROW_BYTES:
            raise ValueError(TOO_LONG)
    if rest:
        yield rest.decode()


def _from_csv(lines: Iterator[str], label_order: LabelOrder) -> Iterator[dict[str, Any]]:
    rows = csv.reader(lines, strict=True)
    header = tuple(next(rows, ()))
    if header not in (CSV_COLUMNS, SUBMISSION_COLUMNS):
        raise ValueError(
            f"its columns are neither {','.join(CSV_COLUMNS)} nor {','.join(SUBMISSION_COLUMNS)}"
        )
    order = COMPETITION_RELATIONS if label_order == "competition" else RELATIONS
    for cells in rows:
        line = dict(zip(header, cells, strict=True))
        if header == SUBMISSION_COLUMNS:
            probabilities = dict(zip(order, json.loads(line["probs"]), strict=True))
            yield {"id": line["id"], "relation": line["pred_label"], "probabilities": probabilities}
        else:
            names = {key: line[key] for key in ("guid", "id") if line[key]}
            yield names | {"relation": line["relation"], "probabilities": json.loads(line["probabilities"])}


def main(argv: list[str] | None = None) -> int:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m scoring.compare",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, metavar="A", help="an output of python -m scoring, in any form")
    parser.add_argument("b", type=Path, metavar="B", help="another one, of the same rows")
    parser.add_argument(
        "--label-order",
        choices=LABEL_ORDERS,
        default="competition",
        help="order of a submission's 30 probabilities",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a relation differs")
    arguments = parser.parse_args(argv)
    try:
        a, b = (read_predictions(path, None, arguments.label_order) for path in (arguments.a, arguments.b))
        summary = compare(a, b, sys.stdout)
    except Refused as error:
        print(f"scoring.compare: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 2
    print(json.dumps(summary))
    return 1 if arguments.strict and summary["same_label"] < summary["rows"] else 0


if __name__ == "__main__":
    sys.exit(main())
