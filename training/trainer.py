"""The Hugging Face Trainer, told four things: rows are bucketed by length, the head learns faster than the body, the recipe chooses the
loss, and KLUE's metrics decide."""

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import EvalPrediction, Trainer, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from models.encoding import Encoder
from models.labels import RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import label_ids
from models.voting import softmax
from training.dataset import LengthBucketSampler, RelationDataset, collate
from training.heads import RelationClassifier
from training.losses import CrossEntropy, FocalLoss, class_weights
from training.recipe import Recipe, Run


class RelationTrainer(Trainer):
    """Trains a `RelationClassifier` as a `Recipe` says."""

    def __init__(
        self, recipe: Recipe, model: RelationClassifier, train: RelationDataset, validation: RelationDataset, encoder: Encoder
    ) -> None:
        self.recipe = recipe
        super().__init__(
            model=model,
            args=arguments(recipe),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=partial(collate, pad_token_id=encoder.pad_token_id, window=encoder.max_length),
            compute_metrics=klue_metrics,
        )
        self.loss = loss(recipe, train).to(self.args.device)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ) -> Tensor | tuple[Tensor, SequenceClassifierOutput]:
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        value = self.loss(outputs.logits, inputs["labels"])
        return (value, outputs) if return_outputs else value

    def _get_train_sampler(self, train_dataset: RelationDataset | None = None) -> Sampler[int]:
        return LengthBucketSampler(train_dataset or self.train_dataset, self.args.train_batch_size, self.args.seed)

    def create_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            self.optimizer = adamw(self.model, self.recipe, decayed, "head.", self.recipe.head_learning_rate)
        return self.optimizer


def adamw(model: nn.Module, recipe: Run, decayed: Collection[str], new: str, new_learning_rate: float) -> torch.optim.AdamW:
    """The optimizer of a recipe. What is `new`, by the beginning of its name, learns at a rate of its own; only `decayed` names decay."""
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


def arguments(recipe: Run) -> TrainingArguments:
    """The Trainer's arguments for a recipe."""
    return TrainingArguments(
        output_dir=str(recipe.output / "checkpoints"),
        seed=recipe.seed,
        data_seed=recipe.seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_ratio=recipe.warmup_ratio,
        bf16=has_bf16() if recipe.bf16 is None else recipe.bf16,
        use_cpu=not torch.accelerator.is_available(),
        eval_strategy="no",
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=1,
        logging_steps=50,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
    )


def loss(recipe: Recipe, train: RelationDataset) -> CrossEntropy | FocalLoss:
    """The loss that a recipe names, its class weights taken from the rows trained on."""
    weights = class_weights(recipe.class_weights, label_ids(train.rows), len(RELATIONS))
    if recipe.loss == "focal":
        return FocalLoss(2.0 if recipe.focal_gamma is None else recipe.focal_gamma, weights, recipe.label_smoothing)
    return CrossEntropy(weights, label_smoothing=recipe.label_smoothing)


def has_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware: elsewhere autocast is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def klue_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Micro-F1 and AUPRC of logits of shape (rows, 30) against label ids of shape (rows,)."""
    probabilities, label_ids = softmax(prediction.predictions), prediction.label_ids
    return {"micro_f1": micro_f1(label_ids, probabilities.argmax(axis=1)), "auprc": auprc(label_ids, probabilities)}
