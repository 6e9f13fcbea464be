"""A pretrained encoder with a relation head, as an ordinary Hugging Face checkpoint folder.

The folder has the encoder's `config.json` with the fields `pooling` (the head), `markers`, `window` and
`exits` added, `model.safetensors` and `tokenizer.json`. Export needs nothing else, except for a head in a
file of the user's: `config.json` names the file and its SHA-256, and loading the member runs the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from models.checkpoint_files import check_folder
from models.classifier import ENTITY_SPANS, ENTITY_TYPES
from models.labels import RELATIONS
from training.model.head import HEADS, Head, HeadInputs, make_head
from training.model.head_name import own_code
from training.model.pretrained import OnEncoder, require, require_encoder


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a `RelationClassifier` is built on an encoder.

    Attributes:
        head: a name in `HEADS`, or `FILE.py:CLASS`.
        markers: the name of a marker style, or the fields of a marker template.
        window: tokens.
        dropout: before the head.
        layers: number of the encoder's first layers to keep; all by default.
        encoder_dropout: of the encoder's states and attention; by default the value in its checkpoint.
        exits: the layers after which a head reads, in ascending order; the last one is the last layer. Empty:
            one head after the last layer.
        attention: transformers' name of the attention implementation; by default transformers chooses.
    """

    head: str
    markers: str | dict[str, Any]
    window: int
    dropout: float
    layers: int | None = None
    encoder_dropout: float | None = None
    exits: tuple[int, ...] = ()
    attention: str | None = None


class RelationClassifier(OnEncoder):
    """Encoder, head (training/model/head.py), dropout and one linear layer to the 30 relations.

    With `exits`, there is a head with its linear layer after each of these layers of the encoder (DeeBERT,
    Xin et al., 2020, arXiv:2004.12993).
    """

    def __init__(self, config: Any, encoder: nn.Module | None = None) -> None:
        super().__init__(config, encoder)
        self.dropout = nn.Dropout(config.head_dropout)
        exits = self.exits
        features = [make_head(config) for _ in exits or [None]]
        linear = [_linear(features[0].size) for _ in features]
        # In checkpoints `head` is the linear layer: those from before `features` can be read.
        self.head = nn.ModuleList(linear) if exits else linear[0]
        self.features = nn.ModuleList(features) if exits else features[0]

    @property
    def exits(self) -> list[int]:
        """The layers after which a head reads, the last layer included; empty if there is only one head."""
        return list(getattr(self.config, "exits", None) or [])

    @property
    def heads(self) -> list[nn.Linear]:
        """The last linear layer of each head: one for each exit, or the only one."""
        return list(self.head) if self.exits else [self.head]

    @property
    def parts(self) -> list[Head]:
        """The part of each head before its linear layer."""
        return list(self.features) if self.exits else [self.features]

    @property
    def reads(self) -> tuple[str, ...]:
        """What the head reads besides token ids, mask and entity positions, by the names of
        models/classifier.py."""
        return tuple(self.parts[0].reads)

    @classmethod
    def from_encoder(cls, name: str, options: HeadOptions) -> "RelationClassifier":
        """A new head on a pretrained encoder, or a finished member with its own head, to train it again.

        If the finished member has other exits, the heads after the same layers are kept and the others are
        new.

        Args:
            name: a folder or a hub name.

        Raises:
            OSError, ValueError: neither a checkpoint folder nor a hub name, a checkpoint with missing
                weights, a member with another head or other markers, exits that the encoder does not have,
                or a head in a file that cannot be used.
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
        for field, wanted in (("pooling", options.head), ("markers", options.markers)):
            has = getattr(config, field, None)
            if finished and has != wanted:
                raise ValueError(f"{name} is a finished member with {field} {has}, not {wanted}")
        config.num_hidden_layers = options.layers or config.num_hidden_layers
        if options.exits and options.exits[-1] != config.num_hidden_layers:
            raise ValueError(f"exits: the last one must be the last layer, {config.num_hidden_layers}")
        if options.encoder_dropout is not None:
            _set_dropout(config, name, options.encoder_dropout)
        config.architectures = [cls.__name__]
        config.pooling, config.markers = options.head, options.markers
        if options.head not in HEADS and not finished:
            config.head_sha256 = own_code(options.head)[1]
        config.window, config.head_dropout = options.window, options.dropout
        config.id2label = dict(enumerate(RELATIONS))
        config.label2id = {relation: index for index, relation in enumerate(RELATIONS)}
        return config, finished

    def with_exits(self, exits: Sequence[int]) -> "RelationClassifier":
        """This model, if it has these exits. Otherwise its encoder with heads for them: heads after the same
        layers are kept, the others are new."""
        if self.exits == list(exits):
            return self
        kept = self._by_layer()
        self.config.exits = list(exits)
        model = RelationClassifier(self.config, self.encoder)
        for layer, modules in model._by_layer().items():
            if layer in kept:
                modules.load_state_dict(kept[layer].state_dict())
        return model

    def _by_layer(self) -> dict[int, nn.ModuleList]:
        """Both parts of each head, by the layer after which it reads."""
        layers = self.exits or [self.config.num_hidden_layers]
        pairs = zip(self.heads, self.parts, strict=True)
        return {layer: nn.ModuleList(pair) for layer, pair in zip(layers, pairs, strict=True)}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        entity_positions: Tensor,
        token_type_ids: Tensor | None = None,
        entity_spans: Tensor | None = None,
        entity_types: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of shape (rows, 30), or (rows, exits, 30). The trainer computes the loss
        (training/model/losses.py). The arguments are those of `each`."""
        logits = self.each(
            input_ids, attention_mask, entity_positions, token_type_ids, entity_spans, entity_types
        )
        return SequenceClassifierOutput(logits=torch.stack(logits, dim=1) if self.exits else logits[0])

    def each(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        entity_positions: Tensor,
        token_type_ids: Tensor | None = None,
        entity_spans: Tensor | None = None,
        entity_types: Tensor | None = None,
    ) -> list[Tensor]:
        """Logits of each head, shape (rows, 30).

        Args:
            input_ids, attention_mask: shape (rows, tokens).
            entity_positions: shape (rows, 2), the tokens that open subject and object.
            token_type_ids: shape (rows, tokens); not read by an encoder with one token type.
            entity_spans, entity_types: as in `HeadInputs`; required if the head `reads` them.
        """
        read = token_type_ids is not None and reads_types(self.config)
        types = {"token_type_ids": token_type_ids} if read else {}
        exits = self.exits
        # Without exits the keyword is left out, because giving it can change how an encoder runs.
        every = {"output_hidden_states": True} if exits else {}
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types, **every)
        states = [outputs.hidden_states[layer] for layer in exits] if exits else [outputs.last_hidden_state]
        spans = entity_spans if ENTITY_SPANS in self.reads else None
        kinds = entity_types if ENTITY_TYPES in self.reads else None
        return [
            head(self.dropout(part(HeadInputs(state, attention_mask, entity_positions, spans, kinds))))
            for head, part, state in zip(self.heads, self.parts, states, strict=True)
        ]


def _linear(size: int) -> nn.Linear:
    head = nn.Linear(size, len(RELATIONS))
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
