"""Pseudo-labels: rows that a bundle or finished members are sure of, as training rows.

Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.cores import available_cores
from engine.devices import choose_device
from engine.planner import cut_sorted
from models.bundle import MANIFEST, SUMS, Bundle, BundleRefused
from models.ensemble import DeviceUnavailable, Ensemble
from models.example import Example
from models.files.rows import json_line
from models.labels import RELATIONS
from models.rows import fits, plain_sentence, read_rows, sha256
from training.data.files import whole, write
from training.errors import InvalidArguments
from training.model.member import TrainedMember, vote
from training.run.record import weights_fingerprint

RECORD = ".record.json"
"""What the name of the record adds to that of the output."""


@dataclass(frozen=True, slots=True)
class PseudoOptions:
    """What is labelled, and which labels are kept.

    Attributes:
        source: rows without labels.
        output: JSONL file to write.
        by: the folder of one bundle, or those of finished members, which vote with equal weights.
        evaluation: files whose sentences must not be among the new rows.
        threshold: least probability of a label that is kept.
        share: the surest part of the rows that got a label, for each label that is not kept whole.
    """

    source: Path
    output: Path
    by: Sequence[Path]
    evaluation: Sequence[Path]
    threshold: float
    share: Mapping[str, float]


def pseudo_label(options: PseudoOptions) -> dict[str, Any]:
    """Label rows and write those that are kept, with a record; returns the record.

    1. Refuse rows that have a label already, and rows whose sentence is in an evaluation file.
    2. Label the others. Refuse those whose entities do not fit into the model's window together.
    3. Refuse labels below the threshold.
    4. Keep the surest share of the rows of each label.

    Raises:
        InvalidArguments: the output is not a file in an existing folder or is one of the inputs, or the
            bundle cannot be used.
        InvalidCheckpoint: a folder is not a finished member.
        InvalidRows: a file cannot be used.
        OSError: the output cannot be written.
    """
    _check_output(options)
    rows = list(read_rows(options.source))
    evaluated = {plain_sentence(row.example) for path in options.evaluation for row in read_rows(path)}
    refused = Counter[str]()
    left = []
    for row in rows:
        if row.label.id is not None or row.label.strange is not None:
            refused["has_a_label"] += 1
        elif plain_sentence(row.example) in evaluated:
            refused["sentence_in_evaluation"] += 1
        else:
            left.append(row)
    probabilities = probabilities_of(options.by, [row.example for row in left])
    fits = np.isfinite(probabilities).all(axis=1)
    refused["entities_do_not_fit"] = int((~fits).sum())
    left = [row for row, each in zip(left, fits, strict=True) if each]
    probabilities = probabilities[fits]
    labels, scores = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0)
    kept = surest(labels, scores, options.share)
    refused["below_threshold"] = int((scores < options.threshold).sum())
    refused["beyond_share"] = int(((scores >= options.threshold) & ~kept).sum())
    kept &= scores >= options.threshold
    with whole(options.output) as file:
        for index in np.flatnonzero(kept):
            new = {"label": RELATIONS[labels[index]], "score": float(scores[index])}
            file.write(json_line({**left[index].fields, **new}))
    counts = Counter(RELATIONS[label] for label in labels[kept])
    record = {
        "output": str(options.output),
        "rows": len(rows),
        "written": counts.total(),
        "by_label": {relation: counts[relation] for relation in RELATIONS if counts[relation]},
        "refused": {reason: count for reason, count in refused.items() if count},
        "threshold": options.threshold,
        "share": dict(options.share),
        "by": {str(folder): _fingerprint(folder) for folder in options.by},
        "source": {str(options.source): sha256(options.source)},
        "evaluation": {str(path): sha256(path) for path in options.evaluation},
    }
    write(Path(f"{options.output}{RECORD}"), json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return record


def surest(
    labels: NDArray[np.int64], scores: NDArray[np.float64], share: Mapping[str, float]
) -> NDArray[np.bool_]:
    """Which rows are among the surest of their label, shape (rows,). At least one row of a label is.

    Args:
        labels, scores: the label of each row and its probability, shape (rows,).
        share: the part that is kept, for each label that is not kept whole.
    """
    kept = np.ones(len(labels), dtype=bool)
    for relation, part in share.items():
        places = np.flatnonzero(labels == RELATIONS.index(relation))
        ordered = places[np.argsort(-scores[places], kind="stable")]
        kept[ordered[math.ceil(part * len(places) - 1e-9) :]] = False
    return kept


def probabilities_of(by: Sequence[Path], examples: Sequence[Example]) -> NDArray[np.float64]:
    """The probabilities of a bundle or of finished members, shape (rows, 30).

    All members vote on every row. A row whose entities do not fit into a window together has NaN. Raises the
    errors of `pseudo_label`.
    """
    if any((folder / MANIFEST).is_file() for folder in by):
        if len(by) > 1:
            raise InvalidArguments("--by: name one bundle, or folders of finished members")
        return _of_bundle(by[0], examples)
    members = [TrainedMember.load(folder) for folder in by]
    fitting = [
        index
        for index, example in enumerate(examples)
        if all(fits(example, member.encoder.encode) for member in members)
    ]
    probabilities = np.full((len(examples), len(RELATIONS)), np.nan)
    if fitting:
        chosen = [examples[index] for index in fitting]
        probabilities[fitting] = np.mean([vote(member.logits(chosen)) for member in members], axis=0)
    return probabilities


def _of_bundle(folder: Path, examples: Sequence[Example]) -> NDArray[np.float64]:
    try:
        bundle = Bundle.open(folder)
        ensemble = Ensemble.load(bundle, choose_device(bundle, "auto")[0], threads=available_cores())
    except (BundleRefused, DeviceUnavailable) as error:
        raise InvalidArguments(f"--by: {error}") from None
    encoded = {
        index: ensemble.encode(example)
        for index, example in enumerate(examples)
        if fits(example, ensemble.encode)
    }
    order = sorted(encoded, key=lambda index: len(encoded[index]))
    probabilities = np.full((len(examples), len(RELATIONS)), np.nan)
    for cut in cut_sorted([len(encoded[index]) for index in order]):
        places = order[cut.start : cut.stop]
        answers = ensemble.run([encoded[place] for place in places], every_member=True)
        probabilities[places] = [answer.probabilities for answer in answers]
    return probabilities


def _check_output(options: PseudoOptions) -> None:
    output = options.output
    if output.is_dir() or not output.parent.is_dir():
        raise InvalidArguments(f"OUT: {output} is not a file in an existing folder; name another file")
    if any(output.resolve() == path.resolve() for path in (options.source, *options.evaluation)):
        raise InvalidArguments(f"OUT: {output} is one of the inputs; name another file")


def _fingerprint(folder: Path) -> str:
    return sha256(folder / SUMS) if (folder / MANIFEST).is_file() else weights_fingerprint(folder)
