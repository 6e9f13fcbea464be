"""The Hugging Face Trainer with this project's choices.

Rows are sorted into batches by length, new weights learn faster than pretrained ones, the recipe chooses the
loss, and KLUE's metrics are measured. Methods without type hints override the Trainer's or a callback's.
"""

import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
)
from transformers.trainer_callback import ProgressCallback

from models.labels import RELATIONS
from models.rows import label_ids
from models.voting import softmax
from training.data.dataset import LengthBucketSampler, RelationDataset, collate, shortest_first
from training.errors import Diverged
from training.model.heads import RelationClassifier
from training.model.losses import CrossEntropy, Distillation, FocalLoss, class_weights, r_drop
from training.model.member import by_exit, vote
from training.run.arguments import arguments, best
from training.run.averaging import WeightAverage
from training.run.callbacks import EXIT, Bar, Record
from training.run.perturbation import SIZES, perturbed
from training.run.predictions import Predictions
from training.run.recipe import Recipe, RunRecipe

LAYER: Final = re.compile(r"\.layers?\.(\d+)\.")
"""The number of a layer in the name of a weight, in the models of transformers."""


class BucketTrainer(Trainer):
    """A Trainer that sorts rows into batches by length, with two learning rates.

    Subclasses name the new weights, by the start of their names, and set `new_learning_rate` for them.
    """

    new_weights: ClassVar[str] = ""

    def __init__(self, recipe: RunRecipe, new_learning_rate: float | None = None, **options: Any) -> None:
        self.recipe = recipe
        self.new_learning_rate = new_learning_rate
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset or self.train_dataset
        return LengthBucketSampler(dataset, self.args.train_batch_size, self.args.seed)

    def create_optimizer(self):
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in self.model.named_parameters():
                is_new = self.new_learning_rate is not None and name.startswith(self.new_weights)
                rate = self.new_learning_rate if is_new else self.recipe.learning_rate * self._share(name)
                decay = self.recipe.weight_decay if name in decayed else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
            options = [
                {"params": parameters, "lr": rate, "weight_decay": decay}
                for (rate, decay), parameters in groups.items()
            ]
            self.optimizer = torch.optim.AdamW(options, fused=True)
        return self.optimizer

    def _share(self, name: str) -> float:
        """A pretrained weight's share of the learning rate: a factor `layer_decay` a layer above it."""
        layers = self.model.config.num_hidden_layers
        if found := LAYER.search(name):
            return self.recipe.layer_decay ** (layers - 1 - int(found[1]))
        return self.recipe.layer_decay**layers if "embeddings" in name else 1.0


class RelationTrainer(BucketTrainer):
    """Trains a `RelationClassifier` from a `Recipe`.

    Args:
        apart: for each validation row, whether its sentence is not among the training rows, shape (rows,).
            By default none is.

    Attributes:
        predictions: of the last evaluation; None before the first one.
    """

    new_weights = ("head.", "features.")

    def __init__(
        self,
        recipe: Recipe,
        model: RelationClassifier,
        train: RelationDataset,
        validation: RelationDataset,
        tokenizer: PreTrainedTokenizerFast | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        apart: NDArray[np.bool_] | None = None,
    ) -> None:
        self.predictions: Predictions | None = None
        self.apart = np.ones(len(validation), dtype=bool) if apart is None else apart
        encoder = train.encoder
        super().__init__(
            recipe,
            recipe.head_learning_rate,
            model=model,
            args=arguments(
                recipe,
                # `Record` requests the evaluation at the end of the run
                eval_strategy="epoch" if recipe.evaluate == "epoch" else "no",
                report_to=recipe.report_to,
                **best(recipe),
            ),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=partial(collate, pad_token_id=encoder.pad_token_id, window=encoder.max_length),
            processing_class=tokenizer,
            callbacks=[Record(recipe), *callbacks],
        )
        self.pop_callback(ProgressCallback)
        self.add_callback(Bar)
        if recipe.patience is not None:
            self.add_callback(EarlyStoppingCallback(recipe.patience))
        self.average = None if recipe.average == "none" else WeightAverage(self.model, recipe)
        if self.average:
            self.add_callback(self.average)
        self.loss = loss(recipe, train).to(self.args.device)
        # batches have many lengths: one compiled step for all of them, not one for each
        self.compiled = torch.compile(self.model, dynamic=True) if recipe.compile else None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        targets = {name: inputs[name] for name in ("labels", "teacher") if name in inputs}
        given = {name: tensor for name, tensor in inputs.items() if name not in targets}
        learns = model.training
        if self.compiled is not None and learns:
            model = self.compiled
        outputs = model(**given)
        value = self._loss_of(outputs.logits, targets)
        if self.recipe.r_drop and learns:
            again = model(**given).logits
            # half of the paper's loss, so that the recipe's learning rate stays right
            value = (value + self._loss_of(again, targets)) / 2
            value += self.recipe.r_drop / 2 * r_drop(outputs.logits, again)
        return (value, outputs) if return_outputs else value

    def _loss_of(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        exits = logits.unbind(1) if logits.ndim == 3 else [logits]
        return torch.stack([self.loss(of_exit, **targets) for of_exit in exits]).mean()

    def training_step(self, model, inputs, num_items_in_batch=None):
        value = super().training_step(model, inputs, num_items_in_batch)
        recipe, steps = self.recipe, self.state.max_steps
        if recipe.adversarial != "none" and self.state.global_step >= recipe.adversarial_start * steps:
            size = recipe.adversarial_size or SIZES[recipe.adversarial]
            with perturbed(self.model, recipe.adversarial, size):
                super().training_step(model, inputs, num_items_in_batch)  # adds its gradients
        return value

    def evaluate(self, *arguments, **keywords):
        # The evaluation's loader draws a random number. Without the fork, a run that is resumed just before
        # an evaluation would get other dropout masks.
        averaged = self.average.applied(self.model) if self.average else nullcontext()
        with torch.random.fork_rng(devices=[]), averaged:
            return super().evaluate(*arguments, **keywords)

    def _save_checkpoint(self, model, trial):
        if self.average:  # first, because the Trainer's last file makes a checkpoint complete
            self.average.save(Path(self.args.output_dir, f"checkpoint-{self.state.global_step}"))
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average:
            self.average.load(Path(resume_from_checkpoint))

    def _load_best_model(self):
        super()._load_best_model()
        if self.average:
            self.average.load(Path(self.state.best_model_checkpoint))

    def keep(self) -> None:
        """After training, give the model the weights that the recipe keeps, and predict with them."""
        if self.average:
            self.average.copy_to(self.model)
        if self.recipe.keep == "best":
            self.predict(self.eval_dataset)  # the last evaluation was of the last epoch
        elif self.predictions is None:  # it was interrupted between its last step and the evaluation
            self.evaluate()

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        # With NaN, all rows would get the same prediction, whose metrics look like those of a model.
        if not np.isfinite(output.predictions).all():
            raise Diverged
        # The rows were evaluated shortest first; the result has the order of the file.
        back = np.argsort(shortest_first(dataloader.dataset))
        logits, labels = output.predictions[back], output.label_ids[back]
        self.predictions = Predictions(labels, vote(logits))
        counted = np.ones(len(labels), dtype=bool)
        if self.recipe.apart and dataloader.dataset is self.eval_dataset:
            counted = self.apart
        metrics = {
            f"{metric_key_prefix}_{name}": value
            for name, value in self.predictions.part(counted).metrics.items()
        }
        for layer, of_exit in zip(self.recipe.exits or (), by_exit(logits), strict=False):
            for name, value in Predictions(labels, softmax(of_exit)).part(counted).metrics.items():
                metrics[f"{metric_key_prefix}_{EXIT}{layer}_{name}"] = value
        return output._replace(predictions=logits, label_ids=labels, metrics=output.metrics | metrics)

    def _get_eval_sampler(self, eval_dataset):
        return shortest_first(eval_dataset)


def loss(recipe: Recipe, train: RelationDataset) -> CrossEntropy | FocalLoss | Distillation:
    """The loss of a recipe. Its class weights come from the rows that are trained on."""
    weights = class_weights(recipe.class_weights, label_ids(train.rows), len(RELATIONS))
    on_labels: CrossEntropy | FocalLoss
    if recipe.loss == "focal":
        gamma = 2.0 if recipe.focal_gamma is None else recipe.focal_gamma
        on_labels = FocalLoss(gamma, weights, recipe.label_smoothing)
    else:
        on_labels = CrossEntropy(weights, label_smoothing=recipe.label_smoothing)
    if train.teacher is None:
        return on_labels
    return Distillation(on_labels, recipe.distillation_weight or 0.5, recipe.distillation_temperature or 2.0)


def masked_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over masked tokens, shape (masked tokens, vocabulary); 0 where nothing is masked.

    The mean over no token would be NaN, and all weights with it.
    """
    return nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / max(1, len(targets))


def finite(loss: float) -> float:
    """The loss, if it is a finite number. Raises Diverged if not."""
    if not math.isfinite(loss):
        raise Diverged
    return loss
