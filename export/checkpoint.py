"""Loads a fine-tuned checkpoint: a folder of `training.train`, or a Hugging Face sequence classifier.
Weights are read from safetensors only; nothing is unpickled."""

import json
from collections.abc import Sequence
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
from export.label_order import ORDERS, check_order, named, names_of, put_in_klue_order
from export.options import LabelOrder
from export.parity import answer
from models.checkpoint_files import check_folder, require_tokenizer
from models.classifier import ATTENTION_MASK, ENTITY_POSITIONS, INPUT_IDS, TOKEN_TYPE_IDS, feed
from models.encoding import EncodedBatch, Encoder
from models.labels import RELATIONS
from models.markers import MARKER_STYLES, MarkerTemplate, checked, described, template_of
from models.rows import LabelledExample, label_ids
from models.vocabulary import check_vocabulary, unused_markers
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
ORDER_ROWS: Final = 400
"""Rows that both label orders are scored on."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model before export: one member, or a trunk with several exits.

    Attributes:
        unnamed: whether the order of its labels is only assumed.
        notes: what a person should know about it, one line each.
    """

    name: str
    model: PreTrainedModel
    tokenizer_json: bytes
    encoder: Encoder
    markers: str | MarkerTemplate
    unnamed: bool = False
    notes: tuple[str, ...] = ()

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
        """Proportional to the arithmetic per token until the first answer; of a head, its weights."""
        config = self.model.config
        per_layer = config.hidden_size * (4 * config.hidden_size + 2 * config.intermediate_size)
        parts = self.model.parts[:1] if isinstance(self.model, RelationClassifier) else []
        of_head = sum(weight.numel() for part in parts for weight in part.parameters())
        return int(self.exits[0] * per_layer + of_head)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that the model reads, by the names of models/classifier.py."""
        types = template_of(self.markers).two_segments and reads_types(self.model.config)
        own = isinstance(self.model, RelationClassifier)
        return (
            INPUT_IDS,
            ATTENTION_MASK,
            *([TOKEN_TYPE_IDS] if types else []),
            *([ENTITY_POSITIONS, *self.model.reads] if own else []),
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


def load(
    folder: Path, markers: str | MarkerTemplate | None = None, label_order: LabelOrder | None = None
) -> Checkpoint:
    """Load a fine-tuned checkpoint, in evaluation mode, with its head in KLUE's order.

    Args:
        markers: those of a checkpoint whose `config.json` names none.
        label_order: of the head; it overrules `config.json`.

    Raises:
        InvalidCheckpoint: the folder or one of its files is missing, has another kind, or contradicts
            another file.
    """
    try:
        document = check_folder(folder)
        found = ", ".join(document.get("architectures") or ["no architecture"])
        if found not in ARCHITECTURES:
            raise ValueError(f"{found} found, one of {', '.join(ARCHITECTURES)} is required")
        require_tokenizer(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        used = _markers(config, markers)
        names = names_of(config.id2label)
        model = _model(folder, ARCHITECTURES[found], config)
        tokenizer_json = _tokenizer_json(folder)
        tokenizer = Tokenizer.from_buffer(tokenizer_json)
        highest, embedded = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
        if highest >= embedded:
            raise ValueError(f"the tokenizer gives ids up to {highest}, the model embeds {embedded}")
        window = min(getattr(config, "window", WINDOW), positions(config))
        encoder = Encoder(tokenizer, used, window, config.pad_token_id)
    except Exception as error:  # those of transformers, safetensors and tokenizers share no base class
        raise InvalidCheckpoint(f"checkpoint {folder}: {' '.join(str(error).split())[:600]}") from None
    notes = []
    if unused := unused_markers(tokenizer, template_of(used)):
        notes.append(
            f"{folder}: the tokenizer has {', '.join(unused[:8])}, which the markers ({described(used)}) do "
            "not use; if the model was trained with them, give a template with --markers"
        )
    order = ORDERS[label_order] if label_order else names or RELATIONS
    if order != RELATIONS:
        put_in_klue_order(model, order)
        source = f"--label-order {label_order}" if label_order else f"id2label has {named(order)}"
        notes.append(f"{folder}: {source}: the head's rows were put into KLUE's order")
    if label_order and names not in (None, order):
        notes.append(f"{folder}: --label-order {label_order} overrules id2label, which has {named(names)}")
    unnamed = label_order is None and names is None
    return Checkpoint(folder.name, model, tokenizer_json, encoder, used, unnamed, tuple(notes))


def check_rows(checkpoint: Checkpoint, rows: Sequence[LabelledExample]) -> list[str]:
    """Check a checkpoint's tokenizer and label order on the rows of the proof.

    Returns:
        What a person should know, one line each.

    Raises:
        InvalidCheckpoint: the tokenizer or the label order does not fit the rows.
    """
    tokenizer = Tokenizer.from_buffer(checkpoint.tokenizer_json)
    try:
        warning = check_vocabulary(tokenizer, checkpoint.encoder, [row.example for row in rows])
    except ValueError as error:
        raise InvalidCheckpoint(f"checkpoint {checkpoint.name}: {error}") from None
    notes = [*checkpoint.notes, *([f"{checkpoint.name}: {warning}"] if warning else [])]
    if checkpoint.unnamed:
        asked = rows[:ORDER_ROWS]
        encoded = [checkpoint.encoder.encode(row.example) for row in asked]
        probabilities = answer(
            checkpoint.logits, encoded, checkpoint.encoder.pad_token_id, f"{checkpoint.name}, label orders"
        )
        notes.append(check_order(checkpoint.name, probabilities, label_ids(asked)))
    return notes


def _markers(config: PretrainedConfig, given: str | MarkerTemplate | None) -> str | MarkerTemplate:
    markers = getattr(config, "markers", given)
    if markers is None:
        known = ", ".join(MARKER_STYLES)
        raise ValueError(
            f"its config.json does not name a marker style; --markers must, with a template file or one of "
            f"{known}"
        )
    used: str | MarkerTemplate = checked(markers)
    return used


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
