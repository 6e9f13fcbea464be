"""Labelled rows as a dataset, and the order of its batches.

Both depend on (seed, epoch, row) only, not on the state of a generator. So a run that is resumed in the
middle of an epoch sees the same rows in the same order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from models.encoding import Encoded, EncodedBatch, Encoder
from models.rows import LabelledExample

BATCHES_A_BUCKET: Final = 50
"""Rows are sorted by length within this many shuffled batches: little padding, and the order stays random."""

LENGTH_STEP: Final = 8
"""Batches have a multiple of this many tokens. On a CPU each new shape costs compiled kernels and memory."""

Sample = tuple[Encoded, int, NDArray[np.float32] | None]
"""A row, its label, and the teachers' probabilities of shape (30,), if the recipe has teachers."""


class RelationDataset(Dataset[Sample]):
    """Encodes a row when it is read.

    In each epoch, each entity loses its type with probability `type_dropout`. So the served model can also
    answer requests without entity types.

    Args:
        teacher: the teachers' probabilities, shape (rows, 30). The teachers saw the types.

    Attributes:
        lengths: number of tokens of each row with its types.
    """

    def __init__(
        self,
        rows: Sequence[LabelledExample],
        encoder: Encoder,
        seed: int = 0,
        type_dropout: float = 0.0,
        teacher: NDArray[np.float32] | None = None,
    ) -> None:
        self.rows = rows
        self.encoder = encoder
        self.seed = seed
        self.type_dropout = type_dropout
        self.teacher = teacher
        self.epoch = 0
        self.lengths = [len(encoder.encode(row.example)) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        example = self.rows[index].example
        if self.type_dropout:
            subject_dropped, object_dropped = (
                np.random.default_rng((self.seed, self.epoch, index)).random(2) < self.type_dropout
            )
            if subject_dropped:
                example = replace(example, subject_entity=replace(example.subject_entity, type=None))
            if object_dropped:
                example = replace(example, object_entity=replace(example.object_entity, type=None))
        return (
            self.encoder.encode(example),
            self.rows[index].label_id,
            None if self.teacher is None else self.teacher[index],
        )


class Epochs(Protocol):
    """A dataset that changes with the epoch. The lengths of its rows, in tokens, hardly change."""

    lengths: Sequence[int]
    epoch: int


class LengthBucketSampler(Sampler[int]):
    """A random order in which neighbours have similar lengths, so that batches have little padding.

    Lengths are counted in tokens: then 8 % of KLUE-RE's batches is padding. Sorted by characters it is 19 %.
    record.ORDER names this order; change it together with the order.
    """

    def __init__(self, dataset: Epochs, batch_size: int, seed: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = np.array(dataset.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.dataset.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.dataset.epoch))
        shuffled = generator.permutation(len(self.lengths))
        size = self.batch_size * BATCHES_A_BUCKET
        batches = []
        for start in range(0, len(shuffled), size):
            bucket = shuffled[start : start + size]
            bucket = bucket[np.argsort(self.lengths[bucket], kind="stable")]
            batches += [bucket[low : low + self.batch_size] for low in range(0, len(bucket), self.batch_size)]
        # The short batch stays last. At another place it would shift the batches that the loader cuts.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        short = [batch for batch in batches if len(batch) < self.batch_size]
        for place in [*generator.permutation(len(full)), *range(len(full), len(full) + len(short))]:
            yield from map(int, [*full, *short][place])


def shortest_first(dataset: Epochs) -> list[int]:
    """All rows sorted by length, for evaluation: little padding."""
    return sorted(range(len(dataset.lengths)), key=dataset.lengths.__getitem__)


def collate(rows: Sequence[Sample], pad_token_id: int, window: int) -> dict[str, torch.Tensor]:
    """A batch of tensors.

    Returns:
        The inputs that `EncodedBatch` describes (token types only if a row has a second segment), `labels`
        of shape (rows,), and with teachers `teacher` of shape (rows, 30).
    """
    encoded, labels, teacher = zip(*rows, strict=True)
    tokens = min(-(-max(map(len, encoded)) // LENGTH_STEP) * LENGTH_STEP, window)
    batch = EncodedBatch.collate(encoded, pad_token_id, tokens)
    tensors = {
        "input_ids": torch.from_numpy(batch.input_ids),
        "attention_mask": torch.from_numpy(batch.attention_mask),
        "entity_positions": torch.from_numpy(batch.entity_positions),
        "entity_spans": torch.from_numpy(batch.entity_spans),
        "entity_types": torch.from_numpy(batch.entity_types),
        "labels": torch.tensor(labels),
    }
    if batch.token_type_ids.any():
        tensors["token_type_ids"] = torch.from_numpy(batch.token_type_ids)
    if teacher[0] is not None:
        tensors["teacher"] = torch.from_numpy(np.stack(teacher))
    return tensors
