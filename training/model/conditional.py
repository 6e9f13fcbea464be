"""A masked language model that knows a sentence's relation, as an ordinary Hugging Face checkpoint folder.

Wu et al., "Conditional BERT Contextual Augmentation", 2018 (arXiv:1812.06705): at every token an embedding of
the label replaces the segment embedding.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput

from models.labels import RELATIONS
from training.model.pretrained import OnEncoder, require_encoder

HEADS = ("transform.dense.weight", "lm_head.dense.weight", "predictions.dense.weight")
LABEL_EMBEDDING = "encoder.embeddings.token_type_embeddings."


class ConditionalMaskedLM(OnEncoder):
    """A BERT, RoBERTa or ALBERT encoder with 30 segments, one for each relation, and a masked-LM head: one
    layer, a norm, and the encoder's token embeddings."""

    def __init__(self, config: Any, encoder: nn.Module | None = None) -> None:
        super().__init__(config, encoder)
        size = getattr(config, "embedding_size", config.hidden_size)  # ALBERT's tokens are narrower
        self.dense = nn.Linear(config.hidden_size, size)
        # For an encoder without a pretrained head. On me5-small-ko this start is better than a random one:
        # held-out loss 6.4 instead of 6.8 after 900 rows.
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.activation = ACT2FN[config.hidden_act]
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    @classmethod
    def from_encoder(cls, name: str, window: int, layers: int | None = None) -> "ConditionalMaskedLM":
        """A pretrained model whose predictions do not depend on the relation yet.

        Args:
            name: a folder or a hub name.
            layers: number of the encoder's first layers to keep; all by default.

        Raises:
            ValueError: the model is no BERT, RoBERTa or ALBERT, or lacks weights of the encoder.
        """
        fewer = {"num_hidden_layers": layers} if layers else {}
        pretrained, report = AutoModelForMaskedLM.from_pretrained(
            name, **fewer, dtype=torch.float32, output_loading_info=True
        )
        require_encoder(pretrained, name, report["missing_keys"])
        encoder, config = pretrained.base_model, pretrained.config
        segments = getattr(getattr(encoder, "embeddings", None), "token_type_embeddings", None)
        if segments is None or not any(
            hasattr(pretrained, head) for head in ("cls", "lm_head", "predictions")
        ):
            raise ValueError(f"{name} has the form of no BERT, RoBERTa or ALBERT; use such an encoder")
        rows = segments.weight.detach()[:1].repeat(len(RELATIONS), 1)
        encoder.embeddings.token_type_embeddings = nn.Embedding.from_pretrained(rows, freeze=False)
        config.architectures = [cls.__name__]
        config.type_vocab_size, config.window = len(RELATIONS), window
        model = cls(config, encoder)
        if not any(key.endswith(HEADS) for key in report["missing_keys"]):
            model._copy_head(pretrained)
        return model

    @classmethod
    def load(cls, folder: Path | str) -> "ConditionalMaskedLM":
        """Load a checkpoint folder that `save_pretrained` wrote, in evaluation mode."""
        return cls.from_pretrained(
            folder, config=AutoConfig.from_pretrained(folder), dtype=torch.float32
        ).eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, relation_ids: Tensor, masked: Tensor
    ) -> MaskedLMOutput:
        """Logits of shape (masked tokens, vocabulary).

        The other tokens get none: a vocabulary is hundreds of times as wide as a state.

        Args:
            input_ids, attention_mask: shape (rows, tokens).
            relation_ids: shape (rows,).
            masked: bool of shape (rows, tokens), the tokens to predict.
        """
        segments = relation_ids.unsqueeze(1).expand_as(input_ids)
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=segments
        ).last_hidden_state
        transformed = self.norm(self.activation(self.dense(states[masked])))
        embeddings = self.encoder.embeddings.word_embeddings.weight
        return MaskedLMOutput(logits=nn.functional.linear(transformed, embeddings, self.bias))

    def _copy_head(self, pretrained: nn.Module) -> None:
        if hasattr(pretrained, "cls"):
            head = pretrained.cls.predictions
            dense, norm = head.transform.dense, head.transform.LayerNorm
        elif hasattr(pretrained, "predictions"):
            head = pretrained.predictions
            dense, norm = head.dense, head.LayerNorm
        else:
            head = pretrained.lm_head
            dense, norm = head.dense, head.layer_norm
        self.dense.load_state_dict(dense.state_dict())
        self.norm.load_state_dict(norm.state_dict())
        self.bias.data.copy_(head.bias)
