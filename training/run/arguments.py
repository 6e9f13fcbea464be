"""The Trainer's arguments for a recipe."""

from typing import Any

import torch
from transformers import TrainingArguments

from training.run.recipe import Recipe, RunRecipe
from training.run.record import CHECKPOINTS


def best(recipe: Recipe) -> dict[str, Any]:
    """The Trainer's arguments that keep the best epoch. It then writes a checkpoint after each epoch."""
    if recipe.keep == "last":
        return {}
    return {
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": recipe.keep_by,
        "greater_is_better": recipe.keep_by != "loss",
        "restore_callback_states_from_checkpoint": True,  # the epochs that early stopping has waited
    }


def arguments(recipe: RunRecipe, **more: Any) -> TrainingArguments:
    """The Trainer's arguments for a recipe, and `more` of them by name."""
    fixed: dict[str, Any] = {"report_to": [], "save_strategy": "steps"}
    return TrainingArguments(
        output_dir=str(recipe.output / CHECKPOINTS),
        seed=recipe.seed,
        data_seed=recipe.seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_ratio=recipe.warmup_ratio,
        bf16=bool(recipe.bf16),  # `claim` has decided it
        fp16=recipe.fp16,
        use_cpu=not torch.accelerator.is_available(),
        save_steps=recipe.save_steps,
        save_total_limit=1,
        logging_steps=0.02,  # a share of all steps: fifty points on the curve of each run
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=False,
        logging_dir=str(recipe.output / "tensorboard"),
        run_name=recipe.output.name,
        **{**fixed, **more},
    )
