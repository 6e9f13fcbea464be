"""A finished member in PyTorch, for calibration and distillation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoConfig

from engine.planner import cut_sorted
from models.checkpoint_files import check_folder
from models.encoding import Encoder
from models.example import Example
from models.labels import RELATIONS
from models.markers import checked
from models.voting import softmax
from training.data.dataset import collate
from training.errors import InvalidCheckpoint
from training.model.calibration import Calibration
from training.model.heads import RelationClassifier
from training.model.pretrained import accelerator, require


def vote(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """A member's probabilities, shape (rows, 30), from its logits.

    Args:
        logits: shape (rows, 30); of a member with exits (rows, exits, 30), and the result is the mean of the
            exits' probabilities.
    """
    return np.mean([softmax(of_exit) for of_exit in by_exit(logits)], axis=0)


def by_exit(logits: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Logits of shape (rows, 30) for each exit, from shape (rows, exits, 30); of one head, a list of one."""
    return list(logits.swapaxes(0, 1)) if logits.ndim == 3 else [logits]


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
            if check_folder(folder).get("architectures") != [kind]:
                raise ValueError(f"not a {kind}")
            config = AutoConfig.from_pretrained(folder)
            encoder = Encoder.from_file(
                folder / "tokenizer.json", checked(config.markers), config.window, config.pad_token_id
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
        """Logits in the order of the examples, in float32, on a GPU if there is one.

        Their shape is (rows, 30), or (rows, exits, 30) of a member with exits.

        Raises:
            InvalidExample: an example's two entities do not fit into the window together.
        """
        device = accelerator()
        model = self.model.to(device)
        encoded = [self.encoder.encode(example) for example in examples]
        order = np.argsort([len(row) for row in encoded], kind="stable")
        exits = (len(self.model.exits),) if self.model.exits else ()
        logits = np.empty((len(encoded), *exits, len(RELATIONS)), dtype=np.float32)
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
    def fold(self, calibrations: Sequence[Calibration]) -> None:
        """Put a calibration into the weights of each head, so that its logits are the calibrated ones."""
        for head, calibration in zip(self.model.heads, calibrations, strict=True):
            head.weight /= calibration.temperature
            head.bias /= calibration.temperature
            head.bias += torch.from_numpy(calibration.shift).to(head.bias)
