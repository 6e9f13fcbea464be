"""A fine-tuned checkpoint folder, loaded with all that export needs to know of it."""

import json
from dataclasses import dataclass
from pathlib import Path

from models.encoding import Encoder
from training.heads import RelationClassifier


class InvalidCheckpoint(ValueError):
    """A folder that is not a checkpoint this project can export; the message names the folder and what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """One member before export."""

    name: str
    model: RelationClassifier
    tokenizer_json: bytes
    encoder: Encoder

    @property
    def markers(self) -> str:
        return str(self.model.config.markers)

    @property
    def window(self) -> int:
        return int(self.model.config.window)

    @property
    def layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def cost(self) -> int:
        """Proportional to the arithmetic a token costs."""
        config = self.model.config
        return int(config.num_hidden_layers * config.hidden_size * (4 * config.hidden_size + 2 * config.intermediate_size))


def load(folder: Path) -> Checkpoint:
    """Load a checkpoint that `training.train` finished.

    Raises:
        InvalidCheckpoint: the folder or one of its files is missing or of another kind.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        # Compact: what the Hugging Face tokenizer saves is indented to twice the size.
        tokenizer = json.dumps(json.loads((folder / "tokenizer.json").read_bytes()), ensure_ascii=False, separators=(",", ":"))
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"checkpoint {folder}: {error}") from None
    if config.get("architectures") != [RelationClassifier.__name__]:
        found = ", ".join(config.get("architectures") or ["no architecture"])
        raise InvalidCheckpoint(f"checkpoint {folder}: {found} found, a {RelationClassifier.__name__} is required")
    try:
        model = RelationClassifier.load(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidCheckpoint(f"checkpoint {folder}: {' '.join(str(error).split())[:300]}") from None
    encoder = Encoder.from_file(folder / "tokenizer.json", model.config.markers, model.config.window, model.config.pad_token_id)
    return Checkpoint(folder.name, model, tokenizer.encode(), encoder)
