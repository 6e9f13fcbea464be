"""Augment a file of labelled rows.

    python -m training.augment train.jsonl more.jsonl --method eda --copies 2
    python -m training.augment train.jsonl balanced.jsonl --method aeda --balance 500

KLUE-RE rows in and out: first the rows as they came, then the new ones, whose guid ends in the method and a
number. What can be changed about a method is described in training/augmentation/; as a recipe's
`augmentation` block the same happens in memory. The last line of stdout is one JSON object. Exit status: 0,
or 2 when a file or an option cannot be used.
"""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from models.example import Entity, InvalidExample
from models.labels import RELATIONS
from models.rows import InvalidRows, read_labelled
from training.augmentation.methods import METHODS
from training.augmentation.variants import Augmentation, Variant, variants


class InvalidOptions(ValueError):
    """Options that the method does not have or that are out of range; the message names them."""


def augment(
    source: Path, output: Path, augmentation: Augmentation, seed: int = 42, only_new: bool = False
) -> dict[str, Any]:
    """Write the rows of `source` and new ones to `output`, whole or not at all; returns what was done, in
    numbers.

    Raises:
        InvalidRows: `source` cannot be used.
        InvalidExample: the method's options make something that is no example.
        OSError: `output` cannot be written.
    """
    rows = read_labelled(source)
    with source.open(encoding="utf-8") as file:
        lines = list(file)
    made = Counter[str]()
    partial = output.parent / f"{output.name}.partial"
    try:
        # A lone surrogate, possible in fields of no meaning here, is written as the escape that it was read
        # from.
        with (
            partial.open("w", encoding="utf-8", errors="backslashreplace") as file,
            tqdm(desc=augmentation.method, unit="row") as progress,
        ):
            for line in () if only_new else lines:
                file.write(line.rstrip("\n") + "\n")
            for variant in variants(rows, augmentation, seed):
                row = new_row(json.loads(lines[variant.source]), variant, augmentation.method)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                made[row["label"]] += 1
                progress.update()
        os.replace(partial, output)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    summary = {
        "output": str(output),
        **augmentation.model_dump(),
        "seed": seed,
        "rows": len(rows),
        "new": made.total(),
    }
    summary["new_by_label"] = {relation: made[relation] for relation in RELATIONS if made[relation]}
    if augmentation.balance is not None:
        have = Counter(RELATIONS[row.label_id] for row in rows) + made
        summary["below_balance"] = {
            relation: have[relation] for relation in RELATIONS if have[relation] < augmentation.balance
        }
    return summary


def new_row(original: dict[str, Any], variant: Variant, method: str) -> dict[str, Any]:
    """A variant as a KLUE-RE row; fields that augmentation does not know stay as they are in the original."""
    guid = original.get("guid", f"row-{variant.source:05d}")
    example = variant.row.example
    return {
        **original,
        "guid": f"{guid}-{method}-{variant.number}",
        "sentence": example.sentence,
        "subject_entity": _entity(example.subject_entity),
        "object_entity": _entity(example.object_entity),
        "label": RELATIONS[variant.row.label_id],
    }


def _entity(entity: Entity) -> dict[str, Any]:
    fields = {"word": entity.word, "start_idx": entity.start_idx, "end_idx": entity.end_idx}
    return fields | ({"type": entity.type} if entity.type else {})


def options(method: str, texts: dict[str, str]) -> Augmentation:
    """The method with its options, given as texts.

    Raises:
        InvalidOptions: an option is unknown to this method or out of range.
    """
    try:
        return METHODS[method](**texts)
    except ValidationError as error:
        faults = (f"{_flag(str(fault['loc'][0]))}: {_message(fault, method)}" for fault in error.errors())
        raise InvalidOptions("; ".join(faults)) from None


def _message(fault: Any, method: str) -> str:
    return f"not an option of {method}" if fault["type"] == "extra_forbidden" else fault["msg"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.augment",
        description="Augment a file of labelled rows.",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="JSONL of KLUE-RE rows with labels")
    parser.add_argument("output", type=Path, metavar="OUT", help="JSONL to write")
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same rows (default 42)")
    parser.add_argument(
        "--only-new", action="store_true", help="write the new rows without the original ones"
    )
    for flag, text in _flags().items():
        parser.add_argument(flag, default=argparse.SUPPRESS, help=text)
    arguments = vars(parser.parse_args(argv))
    source, output, method, seed, only_new = (
        arguments.pop(name) for name in ("source", "output", "method", "seed", "only_new")
    )
    try:
        if seed < 0:
            raise InvalidOptions("--seed: a number from 0 on is required")
        summary = augment(source, output, options(method, arguments), seed, only_new)
    except (InvalidOptions, InvalidRows, InvalidExample, OSError) as error:
        print(f"training.augment: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


def _flags() -> dict[str, str]:
    """Every option of every method as a flag with its help: each is written once, where the method has it."""
    flags = {}
    for method, model in METHODS.items():
        for name, field in model.model_fields.items():
            if name == "method":
                continue
            if name in Augmentation.model_fields:
                flags[_flag(name)] = field.description
            else:
                default = f"{field.default:.2g}" if isinstance(field.default, float) else field.default
                shown = not field.is_required() and default is not None
                flags[_flag(name)] = f"{method}: {field.description}" + (
                    f" (default {default})" if shown else ""
                )
    return flags


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    sys.exit(main())
