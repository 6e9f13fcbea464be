"""The Hugging Face Trainer with this project's choices.

Rows are sorted into batches by length, new weights learn faster than pretrained ones, the recipe chooses the
loss, and KLUE's metrics are measured. Methods without type hints override the Trainer's or a callback's.
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from models.labels import RELATIONS
from models.rows import label_ids
from models.voting import softmax
from training.data.dataset import LengthBucketSampler, RelationDataset, collate, shortest_first
from training.data.files import write
from training.errors import Diverged
from training.model.heads import RelationClassifier
from training.model.losses import CrossEntropy, Distillation, FocalLoss, class_weights
from training.model.member import by_exit, vote
from training.run.predictions import Predictions
from training.run.recipe import Recipe, RunRecipe
from training.run.record import CHECKPOINTS, EPOCHS, METRICS

EXIT: Final = "exit_"
"""Start of the names of an exit's metrics; its layer and the metric follow."""


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
        if self.new_learning_rate is None:
            return super().create_optimizer()
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in self.model.named_parameters():
                is_new = name.startswith(self.new_weights)
                rate = self.new_learning_rate if is_new else self.recipe.learning_rate
                decay = self.recipe.weight_decay if name in decayed else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
            options = [
                {"params": parameters, "lr": rate, "weight_decay": decay}
                for (rate, decay), parameters in groups.items()
            ]
            self.optimizer = torch.optim.AdamW(options, fused=True)
        return self.optimizer


class RelationTrainer(BucketTrainer):
    """Trains a `RelationClassifier` from a `Recipe`.

    Attributes:
        predictions: of the last evaluation; None before the first one.
    """

    new_weights = "head."

    def __init__(
        self,
        recipe: Recipe,
        model: RelationClassifier,
        train: RelationDataset,
        validation: RelationDataset,
        tokenizer: PreTrainedTokenizerFast | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.predictions: Predictions | None = None
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
            ),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=partial(collate, pad_token_id=encoder.pad_token_id, window=encoder.max_length),
            processing_class=tokenizer,
            callbacks=[Record(recipe), *callbacks],
        )
        self.pop_callback(ProgressCallback)
        self.add_callback(Bar)
        self.loss = loss(recipe, train).to(self.args.device)
        # batches have many lengths: one compiled step for all of them, not one for each
        self.compiled = torch.compile(self.model, dynamic=True) if recipe.compile else None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        targets = {name: inputs[name] for name in ("labels", "teacher") if name in inputs}
        if self.compiled is not None and model.training:
            model = self.compiled
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name not in targets})
        logits = outputs.logits
        exits = logits.unbind(1) if logits.ndim == 3 else [logits]
        value = torch.stack([self.loss(of_exit, **targets) for of_exit in exits]).mean()
        return (value, outputs) if return_outputs else value

    def evaluate(self, *arguments, **keywords):
        # The evaluation's loader draws a random number. Without the fork, a run that is resumed just before
        # an evaluation would get other dropout masks.
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*arguments, **keywords)

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
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.predictions.metrics.items()}
        for layer, of_exit in zip(self.recipe.exits or (), by_exit(logits), strict=False):
            for name, value in Predictions(labels, softmax(of_exit)).metrics.items():
                metrics[f"{metric_key_prefix}_{EXIT}{layer}_{name}"] = value
        return output._replace(predictions=logits, label_ids=labels, metrics=output.metrics | metrics)

    def _get_eval_sampler(self, eval_dataset):
        return shortest_first(eval_dataset)


class Record(TrainerCallback):
    """Requests the evaluation at the end of a run, and writes `epochs.jsonl` after each evaluation."""

    def __init__(self, recipe: Recipe) -> None:
        self.path = recipe.output / EPOCHS

    def on_epoch_end(self, args, state, control, **_):
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args, state, control, **_):
        # The whole file each time: a resumed run repeats the epoch of its last checkpoint.
        text = ""
        for entry in state.log_history:
            if "eval_micro_f1" in entry:
                metrics = {name: entry[f"eval_{name}"] for name in METRICS}
                for name, value in entry.items():
                    if name.startswith(f"eval_{EXIT}"):
                        metrics[name.removeprefix("eval_")] = value
                text += json.dumps({"epoch": entry["epoch"], "step": entry["step"], **metrics}) + "\n"
        write(self.path, text)


class Bar(ProgressCallback):
    """The Trainer's progress bar on stderr, with the newest loss and metrics.

    The Trainer's own callback prints all metrics to stdout, where the command's summary has to be alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[str, float] = {}

    def on_log(self, args, state, control, logs, **_):
        if self.training_bar is not None:
            self.newest |= {
                name: logs[name] for name in ("loss", "eval_micro_f1", "eval_auprc") if name in logs
            }
            self.training_bar.set_postfix(self.newest)


def arguments(recipe: RunRecipe, **more: Any) -> TrainingArguments:
    """The Trainer's arguments for a recipe, and `more` of them by name."""
    return TrainingArguments(
        output_dir=str(recipe.output / CHECKPOINTS),
        seed=recipe.seed,
        data_seed=recipe.seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_ratio=recipe.warmup_ratio,
        bf16=bool(recipe.bf16),  # `claim` has decided it
        use_cpu=not torch.accelerator.is_available(),
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=1,
        logging_steps=0.02,  # a share of all steps: fifty points on the curve of each run
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=False,
        logging_dir=str(recipe.output / "tensorboard"),
        run_name=recipe.output.name,
        **{"report_to": [], **more},
    )


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
