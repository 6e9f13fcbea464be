"""A pretrained encoder with a relation head, as an ordinary Hugging Face checkpoint folder.

The folder has the encoder's `config.json` with the fields `pooling`, `markers`, `window` and `exits` added,
`model.safetensors` and `tokenizer.json`. Export needs nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from models.checkpoint_files import check_folder
from models.labels import RELATIONS
from training.model.pretrained import require, require_encoder

POOLED_VECTORS = {"entity_start": 2, "cls": 1, "cls_entity_start": 3, "mean": 1}
"""Number of the encoder's vectors that the head reads, for each pooling."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a `RelationClassifier` is built on an encoder.

    Attributes:
        pooling: a name in `POOLED_VECTORS`.
        markers: the name of a marker style, or the fields of a marker template.
        window: tokens.
        dropout: before the head.
        layers: number of the encoder's first layers to keep; all by default.
        encoder_dropout: of the encoder's states and attention; by default the value in its checkpoint.
        exits: the layers after which a head reads, in ascending order; the last one is the last layer. Empty:
            one head after the last layer.
        attention: transformers' name of the attention implementation; by default transformers chooses.
    """

    pooling: str
    markers: str | dict[str, Any]
    window: int
    dropout: float
    layers: int | None = None
    encoder_dropout: float | None = None
    exits: tuple[int, ...] = ()
    attention: str | None = None


class RelationClassifier(PreTrainedModel):
    """Encoder, pooling, dropout and one linear layer to the 30 relations.

    With `exits`, there is one linear layer after each of these layers of the encoder (DeeBERT, Xin et al.,
    2020, arXiv:2004.12993).

    Pooling, which never reads padding:
        entity_start: the states of the two opening markers, concatenated (Baldini Soares et al., 2019,
            arXiv:1906.03158).
        cls: the state of the first token.
        cls_entity_start: the state of the first token and the two of entity_start.
        mean: the mean over all tokens.
    """

    base_model_prefix = "encoder"
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: Any, encoder: nn.Module | None = None) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config) if encoder is None else encoder
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        self.dropout = nn.Dropout(config.head_dropout)
        exits = self.exits
        self.head = nn.ModuleList([_head(config) for _ in exits]) if exits else _head(config)

    @property
    def exits(self) -> list[int]:
        """The layers after which a head reads, the last layer included; empty if there is only one head."""
        return list(getattr(self.config, "exits", None) or [])

    @property
    def heads(self) -> list[nn.Linear]:
        """One for each exit, or the only one."""
        return list(self.head) if self.exits else [self.head]

    @classmethod
    def from_encoder(cls, name: str, options: HeadOptions) -> "RelationClassifier":
        """A new head on a pretrained encoder, or a finished member with its own head, to train it again.

        If the finished member has other exits, the heads after the same layers are kept and the others are
        new.

        Args:
            name: a folder or a hub name.

        Raises:
            OSError, ValueError: neither a checkpoint folder nor a hub name, a checkpoint with missing
                weights, a member with another pooling or other markers, or exits that the encoder does not
                have.
        """
        config, finished = cls._read_config(name, options)
        kind = cls if finished else AutoModel
        chosen = {"attn_implementation": options.attention} if options.attention else {}
        model, report = kind.from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True, **chosen
        )
        if finished:
            require(name, report["missing_keys"])
            return model.with_exits(options.exits)
        require_encoder(model, name, report["missing_keys"])
        # the encoder's own config object: it changes when the encoder gets more tokens
        model.config.exits = list(options.exits)
        return cls(model.config, model)

    @classmethod
    def config_of(cls, name: str, options: HeadOptions) -> PretrainedConfig:
        """The config of the model that `from_encoder` makes, without its weights. Raises its errors."""
        config, _ = cls._read_config(name, options)
        config.exits = list(options.exits)
        return config

    @classmethod
    def _read_config(cls, name: str, options: HeadOptions) -> tuple[PretrainedConfig, bool]:
        """The config, and whether it is a finished member's."""
        if Path(name).is_dir():
            check_folder(Path(name))
        config = AutoConfig.from_pretrained(name)
        finished = config.architectures == [cls.__name__]
        for field in ("pooling", "markers"):
            has, wanted = getattr(config, field, None), getattr(options, field)
            if finished and has != wanted:
                raise ValueError(f"{name} is a finished member with {field} {has}, not {wanted}")
        config.num_hidden_layers = options.layers or config.num_hidden_layers
        if options.exits and options.exits[-1] != config.num_hidden_layers:
            raise ValueError(f"exits: the last one must be the last layer, {config.num_hidden_layers}")
        if options.encoder_dropout is not None:
            _set_dropout(config, name, options.encoder_dropout)
        config.architectures = [cls.__name__]
        config.pooling, config.markers = options.pooling, options.markers
        config.window, config.head_dropout = options.window, options.dropout
        config.id2label = dict(enumerate(RELATIONS))
        config.label2id = {relation: index for index, relation in enumerate(RELATIONS)}
        return config, finished

    def with_exits(self, exits: Sequence[int]) -> "RelationClassifier":
        """This model, if it has these exits. Otherwise its encoder with heads for them: heads after the same
        layers are kept, the others are new."""
        if self.exits == list(exits):
            return self
        kept = dict(zip(self.exits or [self.config.num_hidden_layers], self.heads, strict=True))
        self.config.exits = list(exits)
        model = RelationClassifier(self.config, self.encoder)
        for layer, head in zip(model.exits or [self.config.num_hidden_layers], model.heads, strict=True):
            if layer in kept:
                head.load_state_dict(kept[layer].state_dict())
        return model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        entity_positions: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of shape (rows, 30), or (rows, exits, 30). The trainer computes the loss
        (training/model/losses.py). The arguments are those of `each`."""
        logits = self.each(input_ids, attention_mask, entity_positions, token_type_ids)
        return SequenceClassifierOutput(logits=torch.stack(logits, dim=1) if self.exits else logits[0])

    def each(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        entity_positions: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> list[Tensor]:
        """Logits of each head, shape (rows, 30).

        Args:
            input_ids, attention_mask: shape (rows, tokens).
            entity_positions: shape (rows, 2), the tokens that open subject and object.
            token_type_ids: shape (rows, tokens); not read by an encoder with one token type.
        """
        read = token_type_ids is not None and reads_types(self.config)
        types = {"token_type_ids": token_type_ids} if read else {}
        exits = self.exits
        # Without exits the keyword is left out, because giving it can change how an encoder runs.
        every = {"output_hidden_states": True} if exits else {}
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types, **every)
        states = [outputs.hidden_states[layer] for layer in exits] if exits else [outputs.last_hidden_state]
        return [
            head(self.dropout(self._pool(state, attention_mask, entity_positions)))
            for head, state in zip(self.heads, states, strict=True)
        ]

    def _pool(self, states: Tensor, attention_mask: Tensor, entity_positions: Tensor) -> Tensor:
        if self.config.pooling == "mean":
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            return (states * mask).sum(1) / mask.sum(1)
        if self.config.pooling == "cls":
            return states[:, 0]
        # gather, because indexing with arange would fix the number of rows in the ONNX graph
        starts = states.gather(1, entity_positions.unsqueeze(-1).expand(-1, -1, states.size(-1))).flatten(1)
        return starts if self.config.pooling == "entity_start" else torch.cat([states[:, 0], starts], dim=1)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the encoder is pretrained, and `__init__` sets the head."""


def _head(config: PretrainedConfig) -> nn.Linear:
    head = nn.Linear(POOLED_VECTORS[config.pooling] * config.hidden_size, len(RELATIONS))
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def positions(config: PretrainedConfig) -> int:
    """The most tokens that an encoder takes. RoBERTa and XLM-R count positions from after the padding id.

    Raises:
        ValueError: it is not an encoder of this kind. Without a config.json, transformers guesses one from
            the folder's name.
    """
    if not hasattr(config, "max_position_embeddings"):
        raise ValueError(
            f"its config (model type {config.model_type}) is not that of an encoder such as BERT or RoBERTa; "
            "name a folder with the encoder's config.json"
        )
    reserved = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    return int(config.max_position_embeddings - reserved)


def reads_types(config: PretrainedConfig) -> bool:
    """Whether an encoder has token types for a second segment."""
    return getattr(config, "type_vocab_size", 0) > 1


def _set_dropout(config: PretrainedConfig, name: str, dropout: float) -> None:
    if not (hasattr(config, "hidden_dropout_prob") and hasattr(config, "attention_probs_dropout_prob")):
        raise ValueError(
            f"{name}: encoder_dropout has no effect on a {config.model_type}, whose dropout fields "
            "have other names; leave it out"
        )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
