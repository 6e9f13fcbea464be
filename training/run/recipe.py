"""A recipe: all that decides a run, in one YAML file. Each field is written once, here.

docs/recipe.md is generated from these fields.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from models.markers import Markers, read_markers
from models.rows import InvalidRows, LabelledExample, read_labelled, two_labels
from training.augmentation.methods import AnyMethod
from training.data.folds import Fold, apart
from training.errors import InvalidRecipe
from training.model.head_name import EXIT_HEADS, checked_head
from training.run.yaml_file import YamlFile
from training.trials.space import SearchSpace

NOT_SEARCHED: Final = frozenset(
    {"search", "output", "validation", "apart", "evaluate", "keep", "keep_by", "patience", "report_to"}
    | {"save_steps", "bf16", "fp16", "gradient_checkpointing", "compile", "fold"}
)
"""Fields that a search cannot change: trials that differ in them cannot be compared."""
RENAMED: Final = {"pooling": "head"}
"""Fields of older recipes, with their present names."""


def renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe by their present names.

    Raises:
        ValueError: a field is there under both names.
    """
    if twice := next((old for old, new in RENAMED.items() if old in fields and new in fields), None):
        raise ValueError(f"{twice}: it is the older name of {RENAMED[twice]}; give one of them")
    return {RENAMED.get(name, name): value for name, value in fields.items()}


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
    drop_two_labels: bool = Field(
        False,
        description="Leaves out the training rows whose sentence and entities another row has with another "
        "label, all of them.",
    )
    epochs: float = Field(1.0, gt=0, description="Number of passes over the training rows.")
    batch_size: int = Field(32, ge=1, description="Rows that the model gets at once.")
    gradient_accumulation: int = Field(
        1, ge=1, description="Batches of one training step, for more rows in a step than fit into memory."
    )
    gradient_checkpointing: bool = Field(
        False, description="Computes activations twice instead of keeping them: less memory, slower steps."
    )
    learning_rate: float = Field(2e-4, gt=0, description="Highest learning rate of the pretrained weights.")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Each layer's learning rate as a share of the rate of the layer above it; the token "
        "embeddings are below the first layer. 1: all the same.",
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    warmup_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of the steps in which the learning rates rise from 0."
    )
    bf16: bool | None = Field(
        None,
        description="Trains in bfloat16 instead of float32. By default a short measurement at the start of "
        "the run decides which is faster on this machine.",
    )
    fp16: bool = Field(False, description="Trains in float16 with scaled losses, for a GPU without bfloat16.")
    save_steps: int = Field(
        100, ge=1, description="Steps between two checkpoints. An interrupted run goes on from the last one."
    )

    @model_validator(mode="after")
    def _check_precision(self) -> Self:
        if self.fp16 and self.bf16:
            raise ValueError("fp16: give either this or bf16, not both")
        return self

    def training_rows(self) -> list[LabelledExample]:
        """The rows of `train` without the held-out fold, or `train_rows` of them.

        Raises:
            InvalidRows: the file cannot be used.
        """
        rows = read_labelled(self.train)
        if self.fold is not None:
            rows = apart(rows, self.fold.held_out(rows))
        if self.drop_two_labels:
            rows = [row for row, doubtful in zip(rows, two_labels(rows), strict=True) if not doubtful]
            if not rows:
                raise InvalidRows(f"{self.train}: drop_two_labels leaves no row; correct the labels")
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
    head: Annotated[str, AfterValidator(checked_head)] = Field(
        "entity_start",
        description="What the head reads: the vectors of the two entity markers (`entity_start`), of the "
        "first token (`cls`), all three (`cls_entity_start`), the mean over all tokens (`mean`), the first "
        "token and the means of both entities through dense layers (`r_bert`), the two markers with learned "
        "vectors of the entity types (`entity_types`), or an LSTM over the tokens at the two markers "
        "(`lstm`). Or a class in a file of yours, as `FILE.py:CLASS`; every command that loads the member "
        "runs this file. Older recipes call the field `pooling`.",
    )
    markers: Annotated[Markers, BeforeValidator(_markers)] = Field(
        "typed_punctuation",
        description="How the two entities are marked in the text: a marker style, or the YAML file of a "
        "marker template.",
    )
    validation: Path = Field(description="Rows to evaluate on: a file of KLUE-RE rows.")
    apart: bool = Field(
        False,
        description="Leaves validation rows out of the metrics whose sentence is among the training rows. "
        "`metrics.json` has the metrics both ways.",
    )
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
    r_drop: float = Field(
        0.0,
        ge=0,
        description="Weight of R-Drop: each batch is read twice with different dropout, and the loss grows "
        "with the distance of the two answers. A step takes twice as long. 0: none.",
    )
    adversarial: Literal["none", "fgm", "awp"] = Field(
        "none",
        description="Also learns the loss at weights that are moved to make it grow: the token embeddings "
        "(fgm) or every matrix (awp). A step takes twice as long.",
    )
    adversarial_size: float | None = Field(
        None,
        gt=0,
        description="How far weights move: a distance for fgm, a share of a matrix's norm for awp. "
        "Default: 1 for fgm, 0.01 for awp.",
    )
    adversarial_start: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps before the first adversarial one."
    )
    average: Literal["none", "ema", "swa"] = Field(
        "none",
        description="Evaluates and keeps an average of the weights: a moving one (ema), or the mean over the "
        "last steps (swa).",
    )
    ema_decay: float = Field(
        0.999, gt=0, lt=1, description="Share of the moving average that each step keeps."
    )
    swa_start: float = Field(
        0.75, ge=0, lt=1, description="Share of the steps before those whose mean swa takes."
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
    keep: Literal["last", "best"] = Field(
        "last",
        description="The finished model: that of the last step, or that of the best epoch by `keep_by`. "
        "best writes a checkpoint after each epoch instead of each `save_steps`.",
    )
    keep_by: Literal["micro_f1", "auprc", "loss"] = Field(
        "micro_f1", description="The metric on the validation rows that decides which epoch is the best."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stops after this many epochs without a better one. It requires `keep: best`. "
        "Default: all epochs.",
    )
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        [], description="Trackers that get losses and metrics during the run. Default: none."
    )
    search: SearchSpace | None = Field(
        None, description="The search space of `python -m training.search`. Other commands do not read it."
    )

    def changed(self, fields: Mapping[str, Any]) -> Self:
        """As `YamlFile.changed`; fields can have older names."""
        return super().changed(renamed(fields))

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, fields: Any) -> Any:
        return renamed(fields) if isinstance(fields, dict) else fields

    @model_validator(mode="after")
    def _check_exits(self) -> Self:
        exits = list(self.exits or ())
        if exits != sorted({layer for layer in exits if layer > 0}):
            raise ValueError(f"exits: layers from 1 on in ascending order are required, not {exits}")
        if exits and self.head not in EXIT_HEADS:
            raise ValueError(
                f"exits: the head {self.head} can read every token and cannot be an exit; choose one of "
                f"{', '.join(EXIT_HEADS)}"
            )
        if exits and self.layers is not None and exits[-1] != self.layers:
            raise ValueError(f"exits: the last one must be the last layer, {self.layers}")
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Fields that need another one, or exclude it."""
        if self.focal_gamma is not None and self.loss != "focal":
            raise ValueError("focal_gamma: it requires `loss: focal`")
        if self.keep == "best" and self.evaluate != "epoch":
            raise ValueError("keep: the best epoch is only known with `evaluate: epoch`")
        if self.patience is not None and self.keep != "best":
            raise ValueError("patience: it requires `keep: best`")
        if self.adversarial_size is not None and self.adversarial == "none":
            raise ValueError("adversarial_size: it requires `adversarial: fgm` or `adversarial: awp`")
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
            if RENAMED.get(name, name) not in type(self).model_fields or name in NOT_SEARCHED:
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
