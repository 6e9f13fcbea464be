"""Labelled rows as a dataset, and the order in which they are shown.

Both depend on (seed, epoch, row) alone, never on a generator's state, so a run resumed in the middle of an
epoch sees the rows it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import Entity
from models.rows import LabelledExample

# rows are sorted by length within so many shuffled batches: little padding, and order still random
BATCHES_A_BUCKET = 50

ORDER = "tokens"
"""What rows are sorted by within a bucket; a run that was begun in another order is not gone on with."""

# tokens: on a CPU every new shape costs compiled kernels and memory, so batches come in few lengths
LENGTH_STEP = 8

Sample = tuple[Encoded, int, NDArray[np.float32] | None]
"""A row, its label, and the teachers' probabilities for it, shape (30,), where a recipe has teachers."""


class RelationDataset(Dataset[Sample]):
    """Encodes rows as they are asked for; each entity loses its type with probability `type_dropout`, anew
    each epoch.

    Type dropout is what lets the served model answer callers who do not know an entity's type. `teacher`,
    shape (rows, 30), is what teachers said who saw the types. `lengths` counts each row's tokens with its
    types.
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
            example = replace(
                example,
                subject_entity=_untyped(example.subject_entity)
                if subject_dropped
                else example.subject_entity,
                object_entity=_untyped(example.object_entity) if object_dropped else example.object_entity,
            )
        return (
            self.encoder.encode(example),
            self.rows[index].label_id,
            None if self.teacher is None else self.teacher[index],
        )


class Epochs(Protocol):
    """A dataset that is another one in each epoch; the lengths of its rows, in tokens, hardly change."""

    lengths: Sequence[int]
    epoch: int


class LengthBucketSampler(Sampler[int]):
    """A random order in which neighbours have similar lengths, so that a batch carries little padding.

    Lengths in tokens: of KLUE-RE's rows, sorted by them, 8 % of what a batch holds is padding; sorted by
    characters 19 %.
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
        # The one short batch stays last: moved forward it would shift the batches the loader cuts from this
        # order.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        short = [batch for batch in batches if len(batch) < self.batch_size]
        for place in [*generator.permutation(len(full)), *range(len(full), len(full) + len(short))]:
            yield from map(int, [*full, *short][place])


def shortest_first(dataset: Epochs) -> list[int]:
    """Where no order is asked for: all rows, so that a batch carries little padding."""
    return sorted(range(len(dataset.lengths)), key=dataset.lengths.__getitem__)


def collate(rows: Sequence[Sample], pad_token_id: int, window: int) -> dict[str, torch.Tensor]:
    """Input tensors as `EncodedBatch` describes them (token types where there is a second segment), `labels`
    of shape (rows,), and `teacher` of shape (rows, 30) where there is one."""
    encoded, labels, teacher = zip(*rows, strict=True)
    tokens = min(-(-max(map(len, encoded)) // LENGTH_STEP) * LENGTH_STEP, window)
    batch = EncodedBatch.collate(encoded, pad_token_id, tokens)
    tensors = {
        "input_ids": torch.from_numpy(batch.input_ids),
        "attention_mask": torch.from_numpy(batch.attention_mask),
        "entity_positions": torch.from_numpy(batch.entity_positions),
        "labels": torch.tensor(labels),
    }
    if batch.token_type_ids.any():
        tensors["token_type_ids"] = torch.from_numpy(batch.token_type_ids)
    if teacher[0] is not None:
        tensors["teacher"] = torch.from_numpy(np.stack(teacher))
    return tensors


def _untyped(entity: Entity) -> Entity:
    return replace(entity, type=None)
