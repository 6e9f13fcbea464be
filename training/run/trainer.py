"""The Hugging Face Trainer, told four things: rows are bucketed by length, the head learns faster than the
body, the recipe chooses the loss, and KLUE's metrics decide."""

import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.trainer_callback import ProgressCallback, TrainerControl, TrainerState
from transformers.trainer_utils import EvalLoopOutput

from models.encoding import Encoder
from models.labels import RELATIONS
from models.rows import label_ids
from models.voting import softmax
from training.data.dataset import LengthBucketSampler, RelationDataset, Sample, collate, shortest_first
from training.model.heads import RelationClassifier
from training.model.losses import CrossEntropy, Distillation, FocalLoss, class_weights
from training.run.experiment import CHECKPOINTS, Predictions, Record
from training.run.recipe import Diverged, Recipe, Run


class RelationTrainer(Trainer):
    """Trains a `RelationClassifier` as a `Recipe` says.

    Attributes:
        predictions: of the last evaluation; None before the first.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: RelationClassifier,
        train: RelationDataset,
        validation: RelationDataset,
        encoder: Encoder,
        tokenizer: PreTrainedTokenizerFast | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.recipe = recipe
        self.predictions: Predictions | None = None
        super().__init__(
            model=model,
            args=arguments(
                recipe,
                # at the end training/run/experiment.py asks for it
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

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, SequenceClassifierOutput]:
        targets = {name: inputs[name] for name in ("labels", "teacher") if name in inputs}
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name not in targets})
        value = self.loss(outputs.logits, **targets)
        return (value, outputs) if return_outputs else value

    def evaluate(self, *arguments: object, **keywords: object) -> dict[str, float]:
        # Its loader draws a number: without this, a run resumed at the end of an epoch, just before it, would
        # draw other dropout masks.
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*arguments, **keywords)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Sample],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        # The rows came shortest first; whoever asked wants them as they stand in the file.
        output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        # all rows would get the same answer, whose metrics look like some model's
        if not np.isfinite(output.predictions).all():
            raise Diverged
        back = np.argsort(shortest_first(dataloader.dataset))
        logits, labels = output.predictions[back], output.label_ids[back]
        self.predictions = Predictions(labels, softmax(logits))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.predictions.metrics.items()}
        return output._replace(predictions=logits, label_ids=labels, metrics=output.metrics | metrics)

    def _get_eval_sampler(self, eval_dataset: RelationDataset) -> list[int]:
        return shortest_first(eval_dataset)

    def _get_train_sampler(self, train_dataset: RelationDataset | None = None) -> Sampler[int]:
        return LengthBucketSampler(
            train_dataset or self.train_dataset, self.args.train_batch_size, self.args.seed
        )

    def create_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            self.optimizer = adamw(self.model, self.recipe, decayed, "head.", self.recipe.head_learning_rate)
        return self.optimizer


class Bar(ProgressCallback):
    """The Trainer's bar on stderr, with the newest loss and metrics at its end. As it comes, it prints them
    all to stdout."""

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[str, float] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: object,
    ) -> None:
        if self.training_bar is not None:
            self.newest |= {
                name: logs[name] for name in ("loss", "eval_micro_f1", "eval_auprc") if name in logs
            }
            self.training_bar.set_postfix(self.newest)


def adamw(
    model: nn.Module, recipe: Run, decayed: Collection[str], new: str, new_learning_rate: float
) -> torch.optim.AdamW:
    """The optimizer of a recipe. What is `new`, by the beginning of its name, learns at a rate of its own;
    only `decayed` names decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith(new), name in decayed), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": new_learning_rate if is_new else recipe.learning_rate,
                "weight_decay": recipe.weight_decay if is_decayed else 0.0,
            }
            for (is_new, is_decayed), parameters in groups.items()
        ],
        fused=True,
    )


def arguments(recipe: Run, **more: Any) -> TrainingArguments:
    """The Trainer's arguments for a recipe, and `more` of them by their names."""
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
        bf16=bool(recipe.bf16),  # decided before anything is trained: training/run/experiment.py
        use_cpu=not torch.accelerator.is_available(),
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=1,
        logging_steps=0.02,  # of all steps: fifty points on the curve of any run
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=False,
        logging_dir=str(recipe.output / "tensorboard"),
        run_name=recipe.output.name,
        **{"report_to": [], **more},
    )


def loss(recipe: Recipe, train: RelationDataset) -> CrossEntropy | FocalLoss | Distillation:
    """The loss that a recipe names, its class weights taken from the rows trained on."""
    weights = class_weights(recipe.class_weights, label_ids(train.rows), len(RELATIONS))
    on_labels: CrossEntropy | FocalLoss
    if recipe.loss == "focal":
        on_labels = FocalLoss(
            2.0 if recipe.focal_gamma is None else recipe.focal_gamma, weights, recipe.label_smoothing
        )
    else:
        on_labels = CrossEntropy(weights, label_smoothing=recipe.label_smoothing)
    if train.teacher is None:
        return on_labels
    weight, temperature = recipe.distillation_weight, recipe.distillation_temperature
    return Distillation(
        on_labels, 0.5 if weight is None else weight, 2.0 if temperature is None else temperature
    )


def finite(loss: float) -> float:
    """A loss that is a number; raises Diverged where it is none."""
    if not math.isfinite(loss):
        raise Diverged
    return loss
