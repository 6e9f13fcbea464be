"""A finished member at work in PyTorch: what calibration and distillation ask it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoConfig

from engine.planner import cut_sorted
from models.encoding import Encoder
from models.example import Example
from models.labels import RELATIONS
from training.data.dataset import collate
from training.model.heads import RelationClassifier
from training.model.pretrained import require


class InvalidCheckpoint(ValueError):
    """A folder that is not a finished member; the message names the folder and what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedMember:
    """A checkpoint folder that `training.train` finished, loaded."""

    folder: Path
    model: RelationClassifier
    encoder: Encoder

    @classmethod
    def load(cls, folder: Path) -> "TrainedMember":
        """Load a member, in evaluation mode.

        Raises:
            InvalidCheckpoint: the folder or one of its files is missing or of another kind.
        """
        try:
            if json.loads((folder / "config.json").read_bytes()).get("architectures") != [
                RelationClassifier.__name__
            ]:
                raise ValueError(f"not a {RelationClassifier.__name__}")
            config = AutoConfig.from_pretrained(folder)
            encoder = Encoder.from_file(
                folder / "tokenizer.json", config.markers, config.window, config.pad_token_id
            )
            model, report = RelationClassifier.from_pretrained(
                folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            require(folder.name, report["missing_keys"])
        except Exception as error:  # those of transformers, safetensors and tokenizers share no base class
            raise InvalidCheckpoint(f"checkpoint {folder}: {' '.join(str(error).split())[:300]}") from None
        return cls(folder, model.eval(), encoder)

    @torch.inference_mode()
    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Shape (rows, 30), in the order of the examples, in float32 on a GPU where there is one; a progress
        bar on stderr.

        Raises:
            InvalidExample: an example's two entities do not fit into the window together.
        """
        device = (
            torch.accelerator.current_accelerator()
            if torch.accelerator.is_available()
            else torch.device("cpu")
        )
        model = self.model.to(device)
        encoded = [self.encoder.encode(example) for example in examples]
        order = np.argsort([len(row) for row in encoded], kind="stable")
        logits = np.empty((len(encoded), len(RELATIONS)), dtype=np.float32)
        with tqdm(total=len(encoded), desc=self.folder.name, unit="row") as bar:
            for cut in cut_sorted([len(encoded[index]) for index in order]):
                places = order[cut.start : cut.stop]
                batch = collate(
                    [(encoded[place], 0, None) for place in places],
                    self.encoder.pad_token_id,
                    self.encoder.max_length,
                )
                del batch["labels"]
                logits[places] = (
                    model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits.cpu().numpy()
                )
                bar.update(len(places))
        return logits
