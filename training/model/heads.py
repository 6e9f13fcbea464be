"""A pretrained encoder with a relation head on top, as an ordinary Hugging Face checkpoint folder.

The folder holds the encoder's own `config.json` (with `pooling`, `markers` and `window` added),
`model.safetensors` and `tokenizer.json`: everything that export needs to know about a member travels in it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from models.labels import RELATIONS
from training.model.pretrained import require, require_encoder

POOLED_VECTORS = {"entity_start": 2, "cls": 1, "cls_entity_start": 3, "mean": 1}


class RelationClassifier(PreTrainedModel):
    """Encoder, pooling, dropout and one linear layer to the 30 relations.

    Pooling, none of which reads padding:
        entity_start: the states of the two opening markers, concatenated (Baldini Soares et al., 2019,
            arXiv:1906.03158).
        cls: the first token's state.
        cls_entity_start: the first token's state and the two of entity_start.
        mean: the mean over all tokens.
    """

    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: Any, encoder: nn.Module | None = None) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config) if encoder is None else encoder
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(POOLED_VECTORS[config.pooling] * config.hidden_size, len(RELATIONS))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def from_encoder(
        cls,
        name: str,
        pooling: str,
        markers: str,
        window: int,
        dropout: float,
        layers: int | None = None,
        encoder_dropout: float | None = None,
    ):
        """A new head on a pretrained encoder (a folder or a hub name), of which `layers` keeps the first
        layers; or a finished member of this project's, to go on from, with the head that it has.

        Args:
            dropout: before the head.
            encoder_dropout: of the encoder's states and attention; by default what its checkpoint says.

        Raises:
            OSError, ValueError: neither a checkpoint folder nor a name on the hub, a checkpoint that lacks
                weights of the encoder, or a member with another pooling or other markers.
        """
        config = AutoConfig.from_pretrained(name)
        finished = config.architectures == [cls.__name__]
        for field, asked in (("pooling", pooling), ("markers", markers)):
            if finished and getattr(config, field) != asked:
                raise ValueError(
                    f"{name} is a finished member with {field} {getattr(config, field)}, not {asked}"
                )
        config.num_hidden_layers = layers or config.num_hidden_layers
        if encoder_dropout is not None:
            if not (
                hasattr(config, "hidden_dropout_prob") and hasattr(config, "attention_probs_dropout_prob")
            ):
                raise ValueError(
                    f"{name}: encoder_dropout has no effect on a {config.model_type}, which calls its dropout otherwise"
                )
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = encoder_dropout
        config.architectures = [cls.__name__]
        config.pooling, config.markers, config.window, config.head_dropout = pooling, markers, window, dropout
        config.id2label = dict(enumerate(RELATIONS))
        config.label2id = {relation: index for index, relation in enumerate(RELATIONS)}
        kind = cls if finished else AutoModel
        model, report = kind.from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True
        )
        if finished:
            require(name, report["missing_keys"])
            return model
        require_encoder(model, name, report["missing_keys"])
        # one and the same: an encoder that is given more tokens says so there
        return cls(model.config, model)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        entity_positions: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of shape (rows, 30). The loss is not the model's affair: training/model/losses.py.

        Args:
            input_ids, attention_mask: shape (rows, tokens).
            entity_positions: shape (rows, 2), the tokens that open subject and object.
            token_type_ids: shape (rows, tokens); left out, or of an encoder with one type only, they do not
                count.
        """
        types = (
            {}
            if token_type_ids is None or not reads_types(self.config)
            else {"token_type_ids": token_type_ids}
        )
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        logits = self.head(self.dropout(self._pool(states, attention_mask, entity_positions)))
        return SequenceClassifierOutput(logits=logits)

    def _pool(self, states: Tensor, attention_mask: Tensor, entity_positions: Tensor) -> Tensor:
        if self.config.pooling == "mean":
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            return (states * mask).sum(1) / mask.sum(1)
        if self.config.pooling == "cls":
            return states[:, 0]
        # gather, not an indexed arange: tracing would freeze the number of rows into the ONNX graph.
        starts = states.gather(1, entity_positions.unsqueeze(-1).expand(-1, -1, states.size(-1))).flatten(1)
        return starts if self.config.pooling == "entity_start" else torch.cat([states[:, 0], starts], dim=1)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the encoder comes pretrained and the head is set in `__init__`."""


def positions(config: PretrainedConfig) -> int:
    """How many tokens an encoder has positions for: RoBERTa and XLM-R count them from behind the padding's id
    on."""
    reserved = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    return int(config.max_position_embeddings - reserved)


def reads_types(config: PretrainedConfig) -> bool:
    """Whether an encoder tells a second segment from the first by token type."""
    return getattr(config, "type_vocab_size", 0) > 1
