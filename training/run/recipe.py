"""A recipe: everything that decides a training run, in one YAML file. Each field is written once, here."""

import os
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.encoding import MARKER_STYLES
from training.augmentation.methods import AnyMethod
from training.data.files import write
from training.data.folds import Fold
from training.run.search_space import SearchSpace

NOT_SEARCHED = {"search", "output", "validation", "evaluate", "report_to", "save_steps", "bf16", "fold"}
"""Fields that a search leaves alone: trials that differ in these are another thing, or cannot be compared."""

SEEDS = 2**32
"""PyTorch, numpy and Optuna all take a seed below it."""


class InvalidRecipe(ValueError):
    """A recipe that cannot be run; the message names the file and the field."""


class Diverged(InvalidRecipe):
    """A run whose model no longer answers with numbers."""

    def __init__(self) -> None:
        super().__init__(
            "learning_rate: training diverged: the model's answers are not numbers; a lower rate or more warm-up may help"
        )


class Run(BaseModel):
    """What every recipe says. `$VARIABLE` in a value is taken from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    encoder: str = Field(
        description="pretrained encoder: a checkpoint folder, a name on the hub, or, for a member, a finished one"
    )
    layers: int | None = Field(None, ge=1, description="keep the encoder's first layers only; all by default")
    max_length: int = Field(512, ge=16, description="window in tokens")
    train: Path = Field(description="JSONL of KLUE-RE rows to train on")
    output: Path = Field(description="folder that receives checkpoints and what comes out in the end")
    seed: int = Field(42, ge=0, lt=SEEDS)
    fold: Fold | None = Field(
        None,
        description="part of the sentences of `train` to hold out, see training/data/folds.py; none by default",
    )
    train_rows: int | None = Field(
        None, ge=1, description="train on the first rows of a seeded shuffle only; all by default"
    )
    epochs: float = Field(1.0, gt=0)
    batch_size: int = Field(32, ge=1, description="rows a step")
    learning_rate: float = Field(2e-4, gt=0, description="peak, of the pretrained body")
    weight_decay: float = Field(0.01, ge=0)
    warmup_ratio: float = Field(
        0.1, ge=0, le=1, description="share of the steps over which the learning rates rise"
    )
    bf16: bool | None = Field(
        None, description="bfloat16 autocast; by default where it is faster, measured once a run"
    )
    save_steps: int = Field(
        100, ge=1, description="steps between checkpoints that an interrupted run resumes from"
    )

    def write(self, path: Path) -> None:
        """Write a YAML file that `read` reads as this recipe; fields without a value are left out."""
        fields = self.model_dump(mode="json", exclude_none=True)
        write(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))

    @classmethod
    def read(cls, path: Path, overrides: dict[str, str] | None = None) -> Self:
        """Read a YAML file; `overrides` (field -> YAML text) win over it.

        Raises:
            InvalidRecipe: the file is missing or not YAML, a field is unknown or of the wrong kind, a
                variable is not set.
        """
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(fields, dict):
                raise InvalidRecipe(f"{path}: a recipe is a mapping of fields")
            fields |= {name: _value(name, text) for name, text in (overrides or {}).items()}
            return cls.model_validate({name: _expand(str(name), value) for name, value in fields.items()})
        except ValidationError as error:
            raise InvalidRecipe(f"{path}: {_faults(error)}") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidRecipe(f"{path}: {' '.join(str(error).split())}") from None


class Recipe(Run):
    """One member of an ensemble."""

    pooling: Literal["entity_start", "cls", "cls_entity_start", "mean"] = Field(
        "entity_start", description="see training/model/heads.py"
    )
    markers: str = Field("typed_punctuation", description="marker style, a name in models/encoding.py")
    validation: Path = Field(description="JSONL of KLUE-RE rows to report on")
    head_learning_rate: float = Field(1e-3, gt=0, description="peak, of the new head")
    loss: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="see training/model/losses.py"
    )
    focal_gamma: float | None = Field(
        None, ge=0, description="focusing parameter of the focal loss; 2 by default"
    )
    class_weights: Literal["none", "inverse_frequency", "effective_number"] = Field(
        "none", description="from the rows trained on"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    teachers: tuple[Path, ...] | None = Field(
        None, min_length=1, description="finished members to learn from as well, see training/teach.py"
    )
    teacher_probabilities: Path | None = Field(
        None, description="what training.teach stored, in place of teachers"
    )
    distillation_weight: float | None = Field(
        None, gt=0, le=1, description="the teachers' share of the loss; 0.5 by default"
    )
    distillation_temperature: float | None = Field(
        None, gt=0, description="of both distributions; 2 by default"
    )
    augmentation: AnyMethod | None = Field(
        None, description="method and its options, see training/augmentation/; none by default"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="before the head")
    encoder_dropout: float | None = Field(
        None, ge=0, lt=1, description="in the encoder's layers; as its checkpoint says by default"
    )
    type_dropout: float = Field(
        0.1, ge=0, lt=1, description="chance that an entity is shown without its type"
    )
    evaluate: Literal["epoch", "end"] = Field(
        "epoch", description="when the validation rows are asked: after each epoch, or only at the end"
    )
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        [], description="trackers that are told of the run as it goes"
    )
    search: SearchSpace | None = Field(
        None, description="what python -m training.search tries, see training/run/search_space.py"
    )

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

    @model_validator(mode="after")
    def _check_teachers(self) -> "Recipe":
        if self.teachers and self.teacher_probabilities:
            raise ValueError("teacher_probabilities: a recipe with teachers has them already")
        if not (self.teachers or self.teacher_probabilities) and (
            self.distillation_weight or self.distillation_temperature
        ):
            raise ValueError(
                "distillation_weight, distillation_temperature: only a recipe with teachers or teacher_probabilities has them"
            )
        return self

    @model_validator(mode="after")
    def _check_search(self) -> "Recipe":
        if self.search is not None:
            for name in self.search.parameters:
                if name not in type(self).model_fields or name in NOT_SEARCHED:
                    raise ValueError(
                        f"search.parameters.{name}: not a field of a recipe that can be searched"
                    )
            if self.search.pruner != "none" and self.epochs <= 1 and "epochs" not in self.search.parameters:
                raise ValueError("search.pruner: after the only epoch there is nothing left to stop")
            for values in self.search.corners():
                try:
                    self.changed({**values, "search": None})
                except InvalidRecipe as error:
                    raise ValueError(f"search.parameters with {values}: {error}") from None
        return self

    def changed(self, fields: dict[str, Any]) -> "Recipe":
        """This recipe with other values for some fields.

        Raises:
            InvalidRecipe: a value is out of its field's range, or does not go with the others.
        """
        try:
            return type(self).model_validate({**self.model_dump(), **fields})
        except ValidationError as error:
            raise InvalidRecipe(_faults(error)) from None


class PretrainingRecipe(Run):
    """An encoder to go on pretraining, see training/pretrain.py."""

    validation: Path = Field(
        description="JSONL of KLUE-RE rows; its sentences that are not trained on are reported on"
    )
    masked_share: float = Field(0.15, gt=0, lt=1, description="share of the tokens to be guessed")


class ContextualRecipe(Run):
    """The masked language model of contextual augmentation, see training/contextual.py."""

    validation: Path | None = Field(
        None, description="JSONL of KLUE-RE rows to report on; by default a tenth of the sentences of `train`"
    )
    mask_ratio: float = Field(0.15, gt=0, le=1, description="words masked, per word of the sentence")
    label_learning_rate: float = Field(
        1e-2, gt=0, description="peak, of the relations' embeddings, which start all the same"
    )


def add_settings(parser: ArgumentParser) -> None:
    """The option `--set FIELD=VALUE`; its value is a list of pairs, the `overrides` of `Run.read`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="FIELD=VALUE",
        help="override a field of the recipe; may be repeated",
    )


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"FIELD=VALUE is required, not {text!r}")
    return name, value


def _value(name: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date that does not exist
        raise InvalidRecipe(f"--set {name}: {' '.join(str(error).split())}") from None


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}" for fault in error.errors()
    )


def _expand(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: _expand(f"{name}.{key}", nested) for key, nested in value.items()}
    if isinstance(value, list):
        return [_expand(name, nested) for nested in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise InvalidRecipe(f"{name}: {value!r} names an environment variable that is not set")
    return expanded
