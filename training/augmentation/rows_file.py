"""Augmentation of a file of KLUE-RE rows: the file's own rows as JSON lines, then the new rows."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.example import Entity
from models.files.rows import json_line
from models.labels import RELATIONS
from models.rows import labelled, read_rows
from training.augmentation.variants import Augmentation, Variant, variants
from training.data.files import whole
from training.errors import InvalidArguments


def augment(
    source: Path, output: Path, augmentation: Augmentation, seed: int = 42, only_new: bool = False
) -> dict[str, Any]:
    """Write the rows of `source` and the new rows to `output`; returns the counts.

    Raises:
        InvalidArguments: `output` is not a file in an existing folder.
        InvalidRows: `source` cannot be used.
        InvalidExample: the method's options make a row that is not a valid example.
        OSError: `output` cannot be written.
    """
    if output.is_dir() or not output.parent.is_dir():
        raise InvalidArguments(f"OUT: {output} is not a file in an existing folder; name another file")
    originals = list(read_rows(source))
    rows = [labelled(row, source) for row in originals]
    made = Counter[str]()
    with whole(output) as file, tqdm(desc=augmentation.method, unit="row") as progress:
        for original in () if only_new else originals:
            file.write(original.line_of_json())
        for variant in variants(rows, augmentation, seed):
            row = new_row(originals[variant.source].fields, variant, augmentation.method)
            file.write(json_line(row))
            made[row["label"]] += 1
            progress.update()
    summary = {"output": str(output), **augmentation.model_dump(), "seed": seed}
    summary |= {"rows": len(rows), "new": made.total()}
    summary["new_by_label"] = {relation: made[relation] for relation in RELATIONS if made[relation]}
    if augmentation.balance is not None:
        total = Counter(RELATIONS[row.label_id] for row in rows) + made
        summary["below_balance"] = {
            relation: total[relation] for relation in RELATIONS if total[relation] < augmentation.balance
        }
    return summary


def new_row(original: Mapping[str, Any], variant: Variant, method: str) -> dict[str, Any]:
    """A variant as a KLUE-RE row. Fields that augmentation does not know are copied from the original."""
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
