"""The Trainer's search over whole runs."""

import math
import sys
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import HPSearchBackend, SaveStrategy

from training.run.experiment import METRICS, finish
from training.run.recipe import Diverged, Recipe
from training.train import fit, prepare


class SearchTrainer(Trainer):
    """`Trainer.hyperparameter_search` whose trials are runs of a changed recipe, made and recorded as
    `training.train` does.

    The Trainer itself could only set its own arguments: not the loss, the pooling, the head's learning rate,
    the augmentation. It has no model; a trial's lives as long as the trial, and leaves its record, not its
    weights.

    Args:
        recipe: with a `search` block.
        folder: receives a folder a trial, `run-` and the back end's name of it.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        # Tune's schedulers insist on an evaluation during training, and that on rows.
        arguments = TrainingArguments(
            str(folder.absolute()), eval_strategy="epoch", report_to=[], disable_tqdm=True
        )
        super().__init__(model_init=lambda: nn.Identity(), args=arguments, eval_dataset=[None])

    def train(self, resume_from_checkpoint: object = None, trial: Any = None, **_: object) -> None:
        """Run one trial; what it drew is in `trial`, an Optuna trial or a mapping. One that diverges ends
        early, and the search goes on."""
        drawn = self.hp_space(trial) if self.hp_search_backend == HPSearchBackend.OPTUNA else trial
        fixed = {"output": self._get_output_dir(trial), "search": None, "evaluate": "epoch"}
        recipe = self.recipe.changed({**self.recipe.search.fields(drawn), **fixed})
        report = _Report(self, trial)
        trainer = prepare(recipe, [report])
        trainer.args.save_strategy = SaveStrategy.NO
        try:
            fit(trainer)
        except Diverged as error:
            print(f"training.search: {recipe.output.name}: {error}", file=sys.stderr)
            self.objective = math.nan  # else the Trainer would evaluate its model, and it has none
            if self.hp_search_backend == HPSearchBackend.OPTUNA:
                import optuna

                raise optuna.TrialPruned from None
            return
        finish(recipe, trainer.predictions, trainer.state.log_history)
        if report.stop is not None:
            raise report.stop


class _Report(TrainerCallback):
    """Tells the back end of a trial's metrics after each epoch; stops the run in order where it is told to
    prune."""

    def __init__(self, search: SearchTrainer, trial: Any) -> None:
        self.search = search
        self.trial = trial
        self.stop: Exception | None = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: object,
    ) -> None:
        values = {"epoch": state.epoch, **{name: metrics[f"eval_{name}"] for name in METRICS}}
        try:
            # By epochs, not steps: trials of different batch sizes are compared.
            self.search._report_to_hp_search(self.trial, math.ceil(state.epoch), values)
        except Exception as stop:
            self.stop = stop
            control.should_training_stop = True
        if self.search.hp_search_backend == HPSearchBackend.WANDB:
            import wandb

            wandb.log({"eval/objective": self.search.objective})
