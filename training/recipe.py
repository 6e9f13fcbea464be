"""A recipe: everything that decides a training run, in one YAML file. Each field is written once, here."""

import os
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.encoding import MARKER_STYLES
from training.augmentation.methods import AnyMethod


class InvalidRecipe(ValueError):
    """A recipe that cannot be run; the message names the file and the field."""


class Run(BaseModel):
    """What every recipe says. `$VARIABLE` in a value is taken from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = Field(description="pretrained encoder: a checkpoint folder, or a name on the Hugging Face hub")
    layers: int | None = Field(None, ge=1, description="keep the encoder's first layers only; all by default")
    max_length: int = Field(512, ge=16, description="window in tokens")
    train: Path = Field(description="JSONL of KLUE-RE rows to train on")
    output: Path = Field(description="folder that receives checkpoints and what comes out in the end")
    seed: int = 42
    train_rows: int | None = Field(None, ge=1, description="train on the first rows of a seeded shuffle only; all by default")
    epochs: float = Field(1.0, gt=0)
    batch_size: int = Field(32, ge=1, description="rows a step")
    learning_rate: float = Field(2e-4, gt=0, description="peak, of the pretrained body")
    weight_decay: float = Field(0.01, ge=0)
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps over which the learning rates rise")
    bf16: bool | None = Field(None, description="bfloat16 autocast; by default where the machine has it in hardware")
    save_steps: int = Field(100, ge=1, description="steps between checkpoints that an interrupted run resumes from")

    @classmethod
    def read(cls, path: Path, overrides: dict[str, str] | None = None) -> Self:
        """Read a YAML file; `overrides` (field -> YAML text) win over it.

        Raises:
            InvalidRecipe: the file is missing or not YAML, a field is unknown or of the wrong kind, a variable is not set.
        """
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(fields, dict):
                raise InvalidRecipe(f"{path}: a recipe is a mapping of fields")
            fields |= {name: yaml.safe_load(text) for name, text in (overrides or {}).items()}
            return cls(**{name: _expand(name, value) for name, value in fields.items()})
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}" for fault in error.errors())
            raise InvalidRecipe(f"{path}: {'; '.join(faults)}") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidRecipe(f"{path}: {' '.join(str(error).split())}") from None


class Recipe(Run):
    """One member of an ensemble."""

    pooling: Literal["entity_start", "cls_entity_start", "mean"] = Field("entity_start", description="see training/heads.py")
    markers: str = Field("typed_punctuation", description="marker style, a name in models/encoding.py")
    validation: Path = Field(description="JSONL of KLUE-RE rows to report on")
    head_learning_rate: float = Field(1e-3, gt=0, description="peak, of the new head")
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="see training/losses.py")
    focal_gamma: float | None = Field(None, ge=0, allow_inf_nan=False, description="focusing parameter of the focal loss; 2 by default")
    class_weights: Literal["none", "inverse_frequency", "effective_number"] = Field("none", description="from the rows trained on")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augmentation: AnyMethod | None = Field(None, description="method and its options, see training/augmentation/; none by default")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the head")
    type_dropout: float = Field(0.1, ge=0, lt=1, description="chance that an entity is shown without its type")

    @model_validator(mode="after")
    def _check_markers(self) -> "Recipe":
        if self.markers not in MARKER_STYLES:
            raise ValueError(f"markers: one of {', '.join(MARKER_STYLES)} is required, not {self.markers!r}")
        return self

    @model_validator(mode="after")
    def _check_gamma(self) -> "Recipe":
        if self.focal_gamma is not None and self.loss != "focal":
            raise ValueError("focal_gamma: only `loss: focal` has one")
        return self


class ContextualRecipe(Run):
    """The masked language model of contextual augmentation, see training/contextual.py."""

    validation: Path | None = Field(None, description="JSONL of KLUE-RE rows to report on; by default a tenth of `train`, held out")
    mask_ratio: float = Field(0.15, gt=0, le=1, description="words masked, per word of the sentence")
    label_learning_rate: float = Field(1e-2, gt=0, description="peak, of the relations' embeddings, which start all the same")


def _expand(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: _expand(f"{name}.{key}", inner) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise InvalidRecipe(f"{name}: {value!r} names an environment variable that is not set")
    return expanded
