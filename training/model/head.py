"""The kinds of relation head: which vectors of the encoder a head's last linear layer reads.

A head is a `Head`, dropout, and one linear layer to the 30 relations. `HEADS` lists those with a name. To add
one, write a subclass, add it to `HEADS`, and its name to `HeadName` (head_name.py). Export needs no more: it
traces the module, and `reads` gives the graph its inputs. tests/test_heads.py then proves the new head.

A class in a file of the user's is loaded by `head_class`. This runs the file.
"""

import sys
from types import ModuleType
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PretrainedConfig

from models.classifier import ENTITY_SPANS, ENTITY_TYPES
from models.example import ENTITY_TYPES as TYPE_NAMES
from training.model.head_name import own_code, own_file

TYPE_SIZE: Final = 64
"""Length of the vector of an entity's type."""
SAME: Final = 1e-4
"""Largest difference between a row's vectors alone and next to a longer row, for values of about 1."""


class HeadInputs(NamedTuple):
    """What a head can read.

    Attributes:
        states: of the encoder's last layer, float of shape (rows, tokens, hidden size).
        attention_mask: int64 of shape (rows, tokens), 1 on tokens and 0 on padding.
        entity_positions: int64 of shape (rows, 2), the tokens that open subject and object.
        entity_spans: int64 of shape (rows, 2, 2): of subject and object, the first token of the word and the
            token after its last one. None if the head's `reads` lacks entity_spans.
        entity_types: int64 of shape (rows, 2): of subject and object, 1 to 6 for PER, ORG, LOC, DAT, POH and
            NOH, 0 for no type. None if the head's `reads` lacks entity_types.
    """

    states: Tensor
    attention_mask: Tensor
    entity_positions: Tensor
    entity_spans: Tensor | None = None
    entity_types: Tensor | None = None

    @property
    def first(self) -> Tensor:
        """The state of the first token, shape (rows, hidden size)."""
        return self.states[:, 0]

    @property
    def starts(self) -> Tensor:
        """The states of the tokens that open subject and object, shape (rows, 2 * hidden size)."""
        return at(self.states, self.entity_positions)


class Head(nn.Module):
    """The part of a head before its last linear layer. A subclass must never read padding.

    Attributes:
        size: number of values that `forward` returns for a row. `__init__` sets it.
        reads: what the head reads besides states, attention mask and entity positions: `"entity_spans"`,
            `"entity_types"`, or both.
    """

    size: int
    reads: tuple[str, ...] = ()

    def __init__(self, config: PretrainedConfig) -> None:
        """
        Args:
            config: of the encoder, with `hidden_size`; `head_dropout` is the recipe's `dropout`.
        """
        super().__init__()
        self.size = config.hidden_size

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Values of shape (rows, size)."""
        raise NotImplementedError


class EntityStart(Head):
    """The states of the two opening markers (Baldini Soares et al., 2019, arXiv:1906.03158)."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.size = 2 * config.hidden_size

    def forward(self, inputs: HeadInputs) -> Tensor:
        return inputs.starts


class First(Head):
    """The state of the first token."""

    def forward(self, inputs: HeadInputs) -> Tensor:
        return inputs.first


class FirstAndEntityStart(Head):
    """The state of the first token and the two of `EntityStart`."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.size = 3 * config.hidden_size

    def forward(self, inputs: HeadInputs) -> Tensor:
        return torch.cat([inputs.first, inputs.starts], dim=1)


class Mean(Head):
    """The mean over all tokens."""

    def forward(self, inputs: HeadInputs) -> Tensor:
        mask = inputs.attention_mask.unsqueeze(-1).to(inputs.states.dtype)
        return (inputs.states * mask).sum(1) / mask.sum(1)


class RBert(Head):
    """The first token and the means of both entities' tokens, each through tanh and a dense layer; the two
    entities share theirs (R-BERT, Wu and He, 2019, arXiv:1905.08284)."""

    reads = (ENTITY_SPANS,)

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.size = 3 * config.hidden_size
        self.dropout = nn.Dropout(config.head_dropout)
        self.first = nn.Linear(config.hidden_size, config.hidden_size)
        self.entity = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, inputs: HeadInputs) -> Tensor:
        assert inputs.entity_spans is not None
        means = span_means(inputs.states, inputs.attention_mask, inputs.entity_spans)
        first = self.first(torch.tanh(self.dropout(inputs.first)))
        entities = self.entity(torch.tanh(self.dropout(means)))
        return torch.cat([first, entities.flatten(1)], dim=1)


class EntityStartAndTypes(Head):
    """The vectors of `EntityStart`, and a learned vector for the type of each entity or for no type."""

    reads = (ENTITY_TYPES,)

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.size = 2 * config.hidden_size + 2 * TYPE_SIZE
        self.subject = nn.Embedding(1 + len(TYPE_NAMES), TYPE_SIZE)
        self.object = nn.Embedding(1 + len(TYPE_NAMES), TYPE_SIZE)

    def forward(self, inputs: HeadInputs) -> Tensor:
        assert inputs.entity_types is not None
        subject, object_ = inputs.entity_types.unbind(1)
        return torch.cat([inputs.starts, self.subject(subject), self.object(object_)], dim=1)


class Lstm(Head):
    """The outputs of a bidirectional LSTM over the tokens at the two opening markers. The LSTM gets the
    length of each row, so the backward direction starts at a row's last token, not in its padding."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        half = -(-config.hidden_size // 2)
        self.size = 4 * half
        self.lstm = nn.LSTM(config.hidden_size, half, batch_first=True, bidirectional=True)

    def forward(self, inputs: HeadInputs) -> Tensor:
        states, lengths = inputs.states, inputs.attention_mask.sum(1).cpu()
        # float32: not every CPU has an LSTM in bfloat16
        with torch.autocast(states.device.type, enabled=False):
            packed = pack_padded_sequence(states.float(), lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=states.size(1)
            )
        return at(outputs, inputs.entity_positions)


HEADS: Final[dict[str, type[Head]]] = {
    "entity_start": EntityStart,
    "cls": First,
    "cls_entity_start": FirstAndEntityStart,
    "mean": Mean,
    "r_bert": RBert,
    "entity_types": EntityStartAndTypes,
    "lstm": Lstm,
}


def at(states: Tensor, positions: Tensor) -> Tensor:
    """The states of some tokens of each row, concatenated: shape (rows, tokens read * hidden size).

    Args:
        states: shape (rows, tokens, hidden size).
        positions: shape (rows, tokens read).
    """
    # gather, because indexing with arange would fix the number of rows in the ONNX graph
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.size(-1))).flatten(1)


def span_means(states: Tensor, attention_mask: Tensor, spans: Tensor) -> Tensor:
    """The mean state of each span, shape (rows, spans, hidden size).

    Args:
        states: shape (rows, tokens, hidden size).
        attention_mask: shape (rows, tokens).
        spans: shape (rows, spans, 2): the first token and the token after the last one.
    """
    # a cumulative sum, because arange would need the number of tokens as a constant of the ONNX graph
    place = (torch.ones_like(attention_mask).cumsum(1) - 1).unsqueeze(1)
    inside = ((place >= spans[:, :, :1]) & (place < spans[:, :, 1:])).to(states.dtype)
    return inside @ states / inside.sum(-1, keepdim=True)


def make_head(config: PretrainedConfig) -> Head:
    """The head that a member's config names.

    Raises:
        ValueError: a head in a file of the user's cannot be used.
    """
    if config.pooling in HEADS:
        return HEADS[config.pooling](config)
    kind = head_class(config.pooling, getattr(config, "head_sha256", None))
    try:
        head = kind(config)
        # transformers loads weights into a model without memory
        if not any(made.is_meta for made in (torch.empty(0), *head.parameters())):
            _check(head, config)
    except Exception as error:  # code of the user's can raise anything
        raise ValueError(f"head {config.pooling}: {_said(error)}") from None
    return head


def head_class(head: str, sha256: str | None = None) -> type[Head]:
    """A class of a file of the user's. Runs the file.

    Args:
        head: `FILE.py:CLASS`.
        sha256: that the file must have: that of the file that a finished member was trained with.

    Raises:
        ValueError: the file is missing, differs or fails, or has no such class.
    """
    path, name = own_file(head)
    code, digest = own_code(head)
    if sha256 not in (None, digest):
        raise ValueError(
            f"head {head}: {path} has changed since the member was trained: restore the file whose SHA-256 "
            f"begins with {str(sha256)[:12]}"
        )
    module = ModuleType(f"head_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, str(path), "exec"), module.__dict__)
    except Exception as error:
        raise ValueError(f"head {head}: {path} cannot be run: {_said(error)}") from None
    kind = module.__dict__.get(name)
    if not (isinstance(kind, type) and issubclass(kind, Head)):
        raise ValueError(f"head {head}: {path} has no class {name} that is a training.model.head.Head")
    return kind


def _said(error: Exception) -> str:
    """An error of a user's code in one line, with its kind unless it is a ValueError."""
    message = " ".join(str(error).split())
    return message if type(error) is ValueError else f"{type(error).__name__}: {message}"


@torch.no_grad()
def _check(head: Head, config: PretrainedConfig) -> None:
    """Run a head on a row alone and next to a longer one. Raises ValueError if it breaks a rule of `Head`."""
    if unknown := set(head.reads) - {ENTITY_SPANS, ENTITY_TYPES}:
        raise ValueError(
            f"reads names {sorted(unknown)[0]!r}; {ENTITY_SPANS!r} and {ENTITY_TYPES!r} are allowed"
        )
    lost = [name for module in head.modules() for name in module._non_persistent_buffers_set]
    if lost:
        raise ValueError(f"buffer {lost[0]!r} is not persistent, so a checkpoint would lose it")
    tokens, row = 7, torch.ones(2, 1, dtype=torch.int64)
    inputs = HeadInputs(
        torch.randn(2, 2 * tokens, config.hidden_size, generator=torch.Generator().manual_seed(0)),
        torch.ones(2, 2 * tokens, dtype=torch.int64),
        row * torch.tensor([1, 4]),
        row.unsqueeze(-1) * torch.tensor([[2, 4], [5, 6]]) if ENTITY_SPANS in head.reads else None,
        row * torch.tensor([1, 0]) if ENTITY_TYPES in head.reads else None,
    )
    inputs.attention_mask[0, tokens:] = 0
    of_first = HeadInputs(*(None if part is None else part[:1] for part in inputs))
    alone = of_first._replace(
        states=of_first.states[:, :tokens], attention_mask=of_first.attention_mask[:, :tokens]
    )
    was_training = head.training
    head.eval()
    said = [head(given) for given in (alone, inputs)]
    head.train(was_training)
    for rows, values in zip((1, 2), said, strict=True):
        if not isinstance(values, Tensor) or values.shape != (rows, head.size):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"forward returns {found} for {rows} rows, not ({rows}, {head.size})")
    if not torch.allclose(said[0][0], said[1][0], atol=SAME):
        raise ValueError("its values for a row change with the padding: use the attention mask")
