"""A recipe: all that decides a run, in one YAML file. Each field is written once, here.

docs/recipe.md is generated from these fields.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from models.markers import Markers
from models.rows import LabelledExample, read_labelled
from models.template_file import read_markers
from models.yaml_text import InvalidYaml, parse_yaml, read_yaml
from training.augmentation.methods import AnyMethod
from training.data.files import write
from training.data.folds import Fold, apart
from training.errors import InvalidRecipe
from training.trials.space import SearchSpace

NOT_SEARCHED: Final = frozenset(
    {"search", "output", "validation", "evaluate", "report_to", "save_steps", "bf16", "compile", "fold"}
)
"""Fields that a search cannot change: trials that differ in them cannot be compared."""


class YamlFile(BaseModel):
    """Fields that are read from a YAML file. `$VARIABLE` in a value is replaced from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, str] | None = None) -> Self:
        """Read a YAML file. `overrides` (field -> YAML text) replace its fields.

        Raises:
            InvalidRecipe: the file is missing or not YAML, a field is unknown or has a wrong value, or an
                environment variable is not set.
        """
        try:
            fields = read_yaml(path)
            given = {name: parse_yaml(text, f"--set {name}") for name, text in (overrides or {}).items()}
        except InvalidYaml as error:
            raise InvalidRecipe(str(error)) from None
        if not isinstance(fields, dict):
            raise InvalidRecipe(f"{path}: a mapping of fields is required")
        fields |= given
        try:
            return cls.model_validate({name: _expand(str(name), value) for name, value in fields.items()})
        except ValidationError as error:
            raise InvalidRecipe(f"{path}: {_faults(error)}") from None

    def write(self, path: Path) -> None:
        """Write a YAML file that `read` reads as these fields. Fields without a value are left out."""
        fields = self.model_dump(mode="json", exclude_none=True)
        write(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))

    def changed(self, fields: Mapping[str, Any]) -> Self:
        """A copy with other values for some fields.

        Raises:
            InvalidRecipe: a value is out of its field's range, or does not fit the other fields.
        """
        try:
            return type(self).model_validate({**self.model_dump(), **fields})
        except ValidationError as error:
            raise InvalidRecipe(_faults(error)) from None


class RunRecipe(YamlFile):
    """The fields of every recipe."""

    encoder: str = Field(
        description="The pretrained encoder: a checkpoint folder or a name on the Hugging Face hub. A member "
        "can also start from a finished member's folder."
    )
    layers: int | None = Field(
        None, ge=1, description="Keeps only this many of the encoder's first layers. Default: all."
    )
    max_length: int = Field(512, ge=16, description="Largest number of tokens of a sentence.")
    train: Path = Field(description="Rows to train on: a file of KLUE-RE rows.")
    output: Path = Field(description="Folder of the run: checkpoints, record, and the finished model.")
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of all random numbers of the run.")
    fold: Fold | None = Field(
        None,
        description="Holds out one of several parts of the sentences of `train`, for example "
        "`{of: 5, number: 1}`. Default: no part.",
    )
    train_rows: int | None = Field(
        None, ge=1, description="Trains on this many rows, drawn at random with `seed`. Default: all."
    )
    epochs: float = Field(1.0, gt=0, description="Number of passes over the training rows.")
    batch_size: int = Field(32, ge=1, description="Rows in one training step.")
    learning_rate: float = Field(2e-4, gt=0, description="Highest learning rate of the pretrained weights.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    warmup_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of the steps in which the learning rates rise from 0."
    )
    bf16: bool | None = Field(
        None,
        description="Trains in bfloat16 instead of float32. By default a short measurement at the start of "
        "the run decides which is faster on this machine.",
    )
    save_steps: int = Field(
        100, ge=1, description="Steps between two checkpoints. An interrupted run goes on from the last one."
    )

    def training_rows(self) -> list[LabelledExample]:
        """The rows of `train` without the held-out fold, or `train_rows` of them.

        Raises:
            InvalidRows: the file cannot be used.
        """
        rows = read_labelled(self.train)
        if self.fold is not None:
            rows = apart(rows, self.fold.held_out(rows))
        if self.train_rows is None:
            return rows
        order = np.random.default_rng(self.seed).permutation(len(rows))
        return [rows[index] for index in order[: self.train_rows]]

    def held_out_rows(self) -> list[LabelledExample]:
        """The rows of `train` that the fold holds out; none without a fold.

        Raises:
            InvalidRows: the file cannot be used.
        """
        return self.fold.held_out(read_labelled(self.train)) if self.fold else []


def _markers(value: Any) -> Any:
    return read_markers(value) if isinstance(value, str) else value


class Recipe(RunRecipe):
    """A member of an ensemble: `python -m training.train`."""

    exits: tuple[int, ...] | None = Field(
        None,
        min_length=2,
        description="Layers after which a head reads, for example `[4, 6, 8, 12]`, the last layer included. "
        "Each becomes a member of the bundle. Default: one head, after the last layer.",
    )
    pooling: Literal["entity_start", "cls", "cls_entity_start", "mean"] = Field(
        "entity_start",
        description="The vectors that the head reads: of the two entity markers (entity_start), of the first "
        "token (cls), of all three (cls_entity_start), or the mean over all tokens (mean).",
    )
    markers: Annotated[Markers, BeforeValidator(_markers)] = Field(
        "typed_punctuation",
        description="How the two entities are marked in the text: a marker style, or the YAML file of a "
        "marker template.",
    )
    validation: Path = Field(description="Rows to evaluate on: a file of KLUE-RE rows.")
    head_learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate of the new head.")
    loss: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy",
        description="The loss on labels. The focal loss gives rows that are right already a small weight.",
    )
    focal_gamma: float | None = Field(
        None, ge=0, description="Focusing parameter of the focal loss. Default: 2."
    )
    class_weights: Literal["none", "inverse_frequency", "effective_number"] = Field(
        "none", description="Gives rare labels a larger weight in the loss, by their number of training rows."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all relations."
    )
    teachers: tuple[Path, ...] | None = Field(
        None,
        min_length=1,
        description="Folders of finished members. The member learns from the mean of their probabilities "
        "(distillation).",
    )
    teacher_probabilities: Path | None = Field(
        None, description="File that `python -m training.teach` wrote; replaces `teachers`."
    )
    distillation_weight: float | None = Field(
        None, gt=0, le=1, description="The teachers' share of the loss. Default: 0.5."
    )
    distillation_temperature: float | None = Field(
        None,
        gt=0,
        description="Temperature of the teachers' and the member's probabilities in the loss. Default: 2.",
    )
    augmentation: AnyMethod | None = Field(
        None,
        description="Adds new training rows: a method and its options, for example `{method: aeda}`. "
        "Default: none.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout before the head.")
    encoder_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout in the encoder's layers. Default: the value in the encoder's checkpoint.",
    )
    compile: bool = Field(
        False,
        description="Compiles the training steps with PyTorch: one to three minutes at the start, then "
        "faster steps. It needs a C++ compiler, and on a CPU `encoder_dropout: 0`.",
    )
    type_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Probability that an entity is shown without its type, so that the member can also "
        "predict without types.",
    )
    evaluate: Literal["epoch", "end"] = Field(
        "epoch", description="When the validation rows are evaluated: after each epoch or only at the end."
    )
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        [], description="Trackers that get losses and metrics during the run. Default: none."
    )
    search: SearchSpace | None = Field(
        None, description="The search space of `python -m training.search`. Other commands do not read it."
    )

    @model_validator(mode="after")
    def _check_exits(self) -> Self:
        exits = list(self.exits or ())
        if exits != sorted({layer for layer in exits if layer > 0}):
            raise ValueError(f"exits: layers from 1 on in ascending order are required, not {exits}")
        if exits and self.pooling == "mean":
            raise ValueError(
                "exits: a head on the mean of all tokens cannot be an exit; choose another pooling"
            )
        if exits and self.layers is not None and exits[-1] != self.layers:
            raise ValueError(f"exits: the last one must be the last layer, {self.layers}")
        return self

    @model_validator(mode="after")
    def _check_gamma(self) -> Self:
        if self.focal_gamma is not None and self.loss != "focal":
            raise ValueError("focal_gamma: it requires `loss: focal`")
        return self

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if self.teachers and self.teacher_probabilities:
            raise ValueError("teacher_probabilities: give either this or teachers, not both")
        options = self.distillation_weight or self.distillation_temperature
        if options and not (self.teachers or self.teacher_probabilities):
            raise ValueError(
                "distillation_weight, distillation_temperature: they need teachers or teacher_probabilities"
            )
        return self

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.search is None:
            return self
        for name in self.search.parameters:
            if name not in type(self).model_fields or name in NOT_SEARCHED:
                raise ValueError(f"search.parameters.{name}: this is not a field that can be searched")
        if self.search.pruner != "none" and self.epochs <= 1 and "epochs" not in self.search.parameters:
            raise ValueError("search.pruner: a pruner requires more than one epoch")
        for values in self.search.corners():
            try:
                self.changed({**values, "search": None})
            except InvalidRecipe as error:
                raise ValueError(f"search.parameters with {values}: {error}") from None
        return self


class PretrainingRecipe(RunRecipe):
    """An encoder that goes on pretraining: `python -m training.pretrain`."""

    validation: Path = Field(
        description="Rows to evaluate on: a file of KLUE-RE rows. Sentences that are also in `train` "
        "are left out."
    )
    masked_share: float = Field(
        0.15, gt=0, lt=1, description="Share of the tokens that the model has to predict."
    )


class ContextualRecipe(RunRecipe):
    """The language model of contextual augmentation: `python -m training.contextual`."""

    validation: Path | None = Field(
        None,
        description="Rows to evaluate on: a file of KLUE-RE rows. Default: a tenth of the sentences of "
        "`train`, which is then not trained on.",
    )
    mask_ratio: float = Field(
        0.15, gt=0, le=1, description="Masked words as a share of the sentence's words."
    )
    label_learning_rate: float = Field(
        1e-2, gt=0, description="Highest learning rate of the relations' embeddings, which start all equal."
    )


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}" for fault in error.errors()
    )


def _expand(name: str, value: object) -> object:
    if name == "markers" and isinstance(value, dict):
        return value  # a dollar sign can be a marker
    if isinstance(value, dict):
        return {key: _expand(f"{name}.{key}", nested) for key, nested in value.items()}
    if isinstance(value, list):
        return [_expand(name, nested) for nested in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise InvalidRecipe(f"{name}: {value!r} names an environment variable that is not set; export it")
    return expanded
