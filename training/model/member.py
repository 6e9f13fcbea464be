"""A finished member in PyTorch, for calibration and distillation."""

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
from training.errors import InvalidCheckpoint
from training.model.calibration import Calibration
from training.model.heads import RelationClassifier
from training.model.pretrained import accelerator, require


@dataclass(frozen=True, slots=True, eq=False)
class TrainedMember:
    """A loaded checkpoint folder that `training.train` has finished."""

    folder: Path
    model: RelationClassifier
    encoder: Encoder

    @classmethod
    def load(cls, folder: Path) -> "TrainedMember":
        """Load a member in evaluation mode.

        Raises:
            InvalidCheckpoint: the folder or one of its files is missing or of another kind.
        """
        kind = RelationClassifier.__name__
        try:
            if json.loads((folder / "config.json").read_bytes()).get("architectures") != [kind]:
                raise ValueError(f"not a {kind}")
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
        """Logits of shape (rows, 30), in the order of the examples, in float32, on a GPU if there is one.

        Raises:
            InvalidExample: an example's two entities do not fit into the window together.
        """
        device = accelerator()
        model = self.model.to(device)
        encoded = [self.encoder.encode(example) for example in examples]
        order = np.argsort([len(row) for row in encoded], kind="stable")
        logits = np.empty((len(encoded), len(RELATIONS)), dtype=np.float32)
        with tqdm(total=len(encoded), desc=self.folder.name, unit="row") as bar:
            for cut in cut_sorted([len(encoded[index]) for index in order]):
                places = order[cut.start : cut.stop]
                rows = [(encoded[place], 0, None) for place in places]
                batch = collate(rows, self.encoder.pad_token_id, self.encoder.max_length)
                del batch["labels"]
                inputs = {name: tensor.to(device) for name, tensor in batch.items()}
                logits[places] = model(**inputs).logits.cpu().numpy()
                bar.update(len(places))
        return logits

    @torch.no_grad()
    def fold(self, calibration: Calibration) -> None:
        """Put a calibration into the head's weights, so that its logits are the calibrated ones."""
        head = self.model.head
        head.weight /= calibration.temperature
        head.bias /= calibration.temperature
        head.bias += torch.from_numpy(calibration.shift).to(head.bias)
