"""The proof that an exported graph is the model that was trained: both answer the same rows, and limits
decide.

optimum validates a conversion on random ids and masks. Only real rows show a wrong marker, mask or label
order.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.planner import cut_sorted
from export.errors import ParityFailed
from models.bundle import Parity
from models.encoding import Encoded, EncodedBatch
from models.metrics import auprc, micro_f1
from models.precision import PRECISIONS, Precision
from models.voting import softmax

MOST_F1_LOST: Final = 0.5


def answer(
    logits: Callable[[EncodedBatch], NDArray[np.float32]],
    rows: Sequence[Encoded],
    pad_token_id: int,
    title: str,
) -> NDArray[np.float64]:
    """Probabilities in the order of the rows, with a progress bar on stderr.

    They have the shape of the logits: (rows, 30) or (rows, exits, 30).
    """
    order = np.argsort([len(row) for row in rows], kind="stable")
    probabilities = np.empty((len(rows), 0))
    with tqdm(total=len(rows), desc=title, unit="row") as bar:
        for cut in cut_sorted([len(rows[index]) for index in order]):
            places = order[cut.start : cut.stop]
            said = logits(EncodedBatch.collate([rows[place] for place in places], pad_token_id))
            if not probabilities.size:
                probabilities = np.empty((len(rows), *said.shape[1:]))
            probabilities[places] = softmax(said.reshape(-1, said.shape[-1])).reshape(said.shape)
            bar.update(len(places))
    return probabilities


def compare(before: NDArray[np.float64], after: NDArray[np.float64], label_ids: NDArray[np.int64]) -> Parity:
    """Compare two sets of answers to the same rows, shape (rows, 30) each; the labels have shape (rows,).

    Raises:
        ParityFailed: a probability is not finite, as after an overflow in fp16.
    """
    differences = np.abs(before - after).max(axis=1)
    if not np.isfinite(differences).all():
        place = int(np.argmin(np.isfinite(differences)))
        raise ParityFailed(f"row {place + 1} of the proof: a probability is not finite")
    return Parity(
        rows=len(label_ids),
        label_agreement=float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        micro_f1_before=micro_f1(label_ids, before.argmax(axis=1)),
        micro_f1=micro_f1(label_ids, after.argmax(axis=1)),
        auprc_before=auprc(label_ids, before),
        auprc=auprc(label_ids, after),
    )


def check(parity: Parity, member: str, precision: Precision) -> None:
    """Hold a graph to the limits of its precision.

    Raises:
        ParityFailed: too few labels agree, or micro-F1 fell by more than `MOST_F1_LOST`.
    """
    where, rows = f"{member}, {precision}", parity.rows
    required = PRECISIONS[precision].agreement
    if parity.label_agreement < required:
        agreed = f"{parity.label_agreement:.2%} of {rows} labels agree with {parity.reference}"
        raise ParityFailed(f"{where}: {agreed}, {required:.1%} are required")
    if parity.micro_f1_before - parity.micro_f1 > MOST_F1_LOST:
        fell = f"micro-F1 fell from {parity.micro_f1_before:.2f} to {parity.micro_f1:.2f} over {rows} rows"
        raise ParityFailed(f"{where}: {fell}, at most {MOST_F1_LOST} is allowed")
