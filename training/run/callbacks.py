"""What happens during a run: its record is written, and its progress shown.

Methods without type hints override a callback's.
"""

import json
from typing import Final

from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from training.data.files import write
from training.run.recipe import Recipe
from training.run.record import EPOCHS, METRICS

EXIT: Final = "exit_"
"""Start of the names of an exit's metrics; its layer and the metric follow."""


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
