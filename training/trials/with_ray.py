"""Trials drawn at random by Ray Tune, several at a time, on this machine."""

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from engine.cores import available_cores
from training.errors import Diverged, InvalidRecipe
from training.run.recipe import Recipe
from training.trials.objective import Objective
from training.trials.run_trial import run_trial
from training.trials.space import Choice, Integer, LogUniform, SearchSpace

RAY_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # despite its name the only switch that makes Ray listen on the loopback address only
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # a recipe's paths are relative to the folder in which the search was started
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # the new output has no progress reporter, and prints tables to stdout
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # a trial's folder has its record already
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}

RAY_STORE_BYTES: Final = 100 * 2**20
"""Ray's object store holds little more than the recipe. Ray's minimum is 75 MB."""


def run_trials(recipe: Recipe, folder: Path, objective: Objective) -> None:
    """Run the trials that are missing. Ray's state is in ray/, so a killed search goes on.

    Args:
        recipe: with a `search` block.
        folder: of the search.

    Raises:
        InvalidRecipe: a trial failed.
    """
    space = recipe.search
    trials = (folder / "trials").absolute()
    with _local_ray():
        from ray import tune
        from ray.tune.search.basic_variant import BasicVariantGenerator

        def run(drawn: dict[str, Any]) -> None:
            def report(_: int, metrics: dict[str, float]) -> bool:
                tune.report({**metrics, "objective": objective(metrics)})
                return False  # Tune stops the process itself

            output = trials / f"run-{tune.get_context().get_trial_id()}"
            try:
                run_trial(recipe, drawn, output, report)
            except Diverged as error:
                print(f"training.search: {output.name}: {error}", file=sys.stderr)

        gpus = torch.cuda.device_count() / space.parallel
        began = any((folder / "ray").glob("experiment_state-*.json"))
        try:
            tune.run(
                run,
                config=_distributions(space),
                num_samples=space.trials,
                resources_per_trial={
                    "cpu": max(1, available_cores() // space.parallel),
                    "gpu": gpus if gpus < 1 else int(gpus),
                },
                search_alg=BasicVariantGenerator(random_state=space.seed, max_concurrent=space.parallel),
                scheduler=_scheduler(recipe),
                storage_path=str(folder.absolute()),
                name="ray",
                resume="AUTO+RESTART_ERRORED" if began else None,
                progress_reporter=_Progress(),
                verbose=1,
            )
        except tune.TuneError as error:
            raise InvalidRecipe(
                f"search: {error}; the reason is in error.txt in the trial's folder under {folder / 'ray'}"
            ) from None


def _distributions(space: SearchSpace) -> dict[str, Any]:
    from ray import tune

    drawn: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            drawn[name] = tune.choice(parameter.labels)
        elif isinstance(parameter, Integer):
            drawn[name] = tune.randint(parameter.low, parameter.high + 1)
        else:
            distribution = tune.loguniform if isinstance(parameter, LogUniform) else tune.uniform
            drawn[name] = distribution(parameter.low, parameter.high)
    return drawn


def _scheduler(recipe: Recipe) -> Any:
    from ray.tune import schedulers

    space = recipe.search
    if space.pruner == "none":
        return schedulers.FIFOScheduler()
    aim = {"metric": "objective", "mode": space.direction[:3], "time_attr": "training_iteration"}
    if space.pruner == "median":
        return schedulers.MedianStoppingRule(**aim, grace_period=1, min_samples_required=5)
    searched = space.parameters["epochs"].extremes if "epochs" in space.parameters else []
    # One epoch more than there will be, so that the run ends itself and the scheduler does not end it.
    last = math.ceil(max([recipe.epochs, *searched])) + 1
    return schedulers.ASHAScheduler(**aim, max_t=last, grace_period=1, reduction_factor=2)


class _Progress:
    """Tune's progress reporter: a bar that counts the finished trials."""

    def setup(self, total_samples: int | None = None, **_: object) -> None:
        self.bar = tqdm(total=total_samples, unit="trial")

    def should_report(self, trials: Sequence[Any], done: bool = False) -> bool:
        return True

    def report(self, trials: Sequence[Any], done: bool, *_: str) -> None:
        # only when one has finished: each update is a line where standard error is a file
        if finished := sum(trial.is_finished() for trial in trials) - self.bar.n:
            self.bar.update(finished)
        if done:
            self.bar.close()


@contextmanager
def _local_ray() -> Iterator[None]:
    """Ray on this machine only, with the cores that this process can use. The block's end stops it."""
    # Ray reads the environment when it is imported. Its workers inherit it, and find this repository.
    os.environ.update(RAY_ENVIRONMENT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=available_cores(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=RAY_STORE_BYTES,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()
