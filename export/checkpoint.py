"""Loads a fine-tuned checkpoint: a folder of `training.train`, or a Hugging Face sequence classifier.
Weights are read from safetensors only; nothing is unpickled."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertForSequenceClassification,
    ElectraForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from export.errors import InvalidCheckpoint
from models.classifier import ATTENTION_MASK, ENTITY_POSITIONS, INPUT_IDS, TOKEN_TYPE_IDS, feed
from models.encoding import EncodedBatch, Encoder
from models.labels import RELATIONS
from models.markers import MARKER_STYLES
from training.model.heads import RelationClassifier, positions, reads_types

ARCHITECTURES: Final[dict[str, type[PreTrainedModel]]] = {
    model.__name__: model
    for model in (
        RelationClassifier,
        BertForSequenceClassification,
        RobertaForSequenceClassification,
        XLMRobertaForSequenceClassification,
        ElectraForSequenceClassification,
    )
}
WINDOW: Final = 512
"""Tokens, for a checkpoint that states no window and has positions for more."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model before export: one member, or a trunk with several exits."""

    name: str
    model: PreTrainedModel
    tokenizer_json: bytes
    encoder: Encoder
    markers: str

    @property
    def window(self) -> int:
        return self.encoder.max_length

    @property
    def layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def exits(self) -> tuple[int, ...]:
        """The layers after which a head reads: the last one, or several of a trunk with exits."""
        return tuple(getattr(self.model, "exits", ())) or (self.layers,)

    @property
    def cost(self) -> int:
        """Proportional to the arithmetic per token until the first answer."""
        config = self.model.config
        per_layer = config.hidden_size * (4 * config.hidden_size + 2 * config.intermediate_size)
        return int(self.exits[0] * per_layer)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that the model reads, by the names of models/classifier.py."""
        types = MARKER_STYLES[self.markers].has_question and reads_types(self.model.config)
        own = isinstance(self.model, RelationClassifier)
        return (
            INPUT_IDS,
            ATTENTION_MASK,
            *([TOKEN_TYPE_IDS] if types else []),
            *([ENTITY_POSITIONS] if own else []),
        )

    @torch.inference_mode()
    def logits(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """The PyTorch model's logits, shape (rows, 30), or (rows, exits, 30) of a trunk with several exits.
        Called like a `Chain`."""
        tensors = {name: torch.from_numpy(array) for name, array in feed(batch, self.inputs).items()}
        logits: NDArray[np.float32] = self.model(**tensors).logits.numpy()
        return logits

    def with_window(self, window: int) -> "Checkpoint":
        """The same member with another window."""
        tokenizer = Tokenizer.from_buffer(self.tokenizer_json)
        return replace(self, encoder=Encoder(tokenizer, self.markers, window, self.encoder.pad_token_id))


def load(folder: Path, markers: str | None = None) -> Checkpoint:
    """Load a fine-tuned checkpoint, in evaluation mode.

    Args:
        markers: the marker style of a checkpoint whose `config.json` names none.

    Raises:
        InvalidCheckpoint: the folder or one of its files is missing, has another kind, or contradicts
            another file.
    """
    try:
        document = json.loads((folder / "config.json").read_bytes())
        found = ", ".join(document.get("architectures") or ["no architecture"])
        if found not in ARCHITECTURES:
            raise ValueError(f"{found} found, one of {', '.join(ARCHITECTURES)} is required")
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        style = _marker_style(config, markers)
        _check_labels(folder, config)
        model = _model(folder, ARCHITECTURES[found], config)
        tokenizer_json = _tokenizer_json(folder)
        tokenizer = Tokenizer.from_buffer(tokenizer_json)
        highest, embedded = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
        if highest >= embedded:
            raise ValueError(f"the tokenizer gives ids up to {highest}, the model embeds {embedded}")
        window = min(getattr(config, "window", WINDOW), positions(config))
        encoder = Encoder(tokenizer, style, window, config.pad_token_id)
    except Exception as error:  # those of transformers, safetensors and tokenizers share no base class
        raise InvalidCheckpoint(f"checkpoint {folder}: {' '.join(str(error).split())[:600]}") from None
    return Checkpoint(folder.name, model, tokenizer_json, encoder, style)


def _marker_style(config: PretrainedConfig, given: str | None) -> str:
    style: str | None = getattr(config, "markers", given)
    known = ", ".join(MARKER_STYLES)
    if style is None:
        raise ValueError(f"its config.json does not name a marker style; --markers must, with one of {known}")
    if style not in MARKER_STYLES:
        raise ValueError(f"markers: one of {known} is required, not {style!r}")
    return style


def _check_labels(folder: Path, config: PretrainedConfig) -> None:
    names = [config.id2label.get(place) for place in range(len(config.id2label))]
    if len(names) != len(RELATIONS):
        raise ValueError(f"id2label: {len(names)} labels found, KLUE's {len(RELATIONS)} are required")
    if names == [f"LABEL_{place}" for place in range(len(RELATIONS))]:
        taken = "its labels have no names; they are taken as KLUE's relations in official order"
        print(f"checkpoint {folder}: {taken}", file=sys.stderr)
        return
    for place, (name, relation) in enumerate(zip(names, RELATIONS, strict=True)):
        if name != relation:
            raise ValueError(f"id2label: {place} is {name!r}, in KLUE's official order it is {relation!r}")


def _model(folder: Path, architecture: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    if not any(folder.glob("*.safetensors")) and any(folder.glob("pytorch_model*.bin")):
        name = architecture.__name__
        convert = f"{name}.from_pretrained('{folder}').save_pretrained('{folder}')"
        raise ValueError(
            "pytorch_model.bin is a pickle and is not opened here; if you trust it, convert it: "
            f'python -c "from transformers import {name}; {convert}"'
        )
    model, loaded = architecture.from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"its weights lack {missing[0]}, which would be random")
    return model.eval()


def _tokenizer_json(folder: Path) -> bytes:
    """A tokenizer as one JSON document, also if the folder has only its vocabulary. It is compact: with
    indentation it is twice as long."""
    path = folder / "tokenizer.json"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
        text = tokenizer.backend_tokenizer.to_str()
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode()
