"""A pretrained encoder with a relation head on top, as an ordinary Hugging Face checkpoint folder.

The folder holds the encoder's own `config.json` (with `pooling`, `markers` and `window` added), `model.safetensors` and
`tokenizer.json`: everything that export needs to know about a member travels in it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from models.labels import RELATIONS

POOLED_VECTORS = {"entity_start": 2, "cls": 1, "cls_entity_start": 3, "mean": 1}


class RelationClassifier(PreTrainedModel):
    """Encoder, pooling, dropout and one linear layer to the 30 relations.

    Pooling, none of which reads padding:
        entity_start: the states of the two opening markers, concatenated (Baldini Soares et al., 2019, arXiv:1906.03158).
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
    def from_encoder(cls, name: str, pooling: str, markers: str, window: int, dropout: float, layers: int | None = None):
        """A new head on a pretrained encoder (a folder or a hub name), of which `layers` keeps the first layers."""
        encoder = AutoModel.from_pretrained(name, **({"num_hidden_layers": layers} if layers else {}), dtype=torch.float32)
        config = encoder.config
        config.architectures = [cls.__name__]
        config.pooling, config.markers, config.window, config.head_dropout = pooling, markers, window, dropout
        config.id2label = dict(enumerate(RELATIONS))
        config.label2id = {relation: index for index, relation in enumerate(RELATIONS)}
        return cls(config, encoder)

    @classmethod
    def load(cls, folder: Path) -> "RelationClassifier":
        """Load a checkpoint folder that `save_pretrained` wrote, in evaluation mode."""
        return cls.from_pretrained(folder, config=AutoConfig.from_pretrained(folder), dtype=torch.float32).eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, entity_positions: Tensor) -> SequenceClassifierOutput:
        """Logits of shape (rows, 30). The loss is not the model's affair: training/losses.py.

        Args:
            input_ids, attention_mask: shape (rows, tokens).
            entity_positions: shape (rows, 2), the tokens that open subject and object.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
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
