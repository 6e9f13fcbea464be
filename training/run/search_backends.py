"""The Trainer's back ends for a search: what each wants to know of a search space, a pruner, and a search
that was interrupted."""

import importlib.util
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from engine.cores import available_cores
from training.run.recipe import InvalidRecipe, Recipe
from training.run.search_space import Choice, Integer, LogUniform, SearchSpace

RAY_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # for all its name the one switch that makes Ray listen on the loopback address only
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # transformers 4.57 asks ray.train for a checkpoint, which its second version refuses inside Tune
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a recipe's paths count from where the search was started
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one takes no reporter of progress, and prints tables to stdout
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial's folder holds its record already
}

RAY_STORE_BYTES: Final = 100 * 2**20
"""It holds the recipe and little else; Ray takes no less than 75 MB."""


def check(backend: str, space: SearchSpace) -> None:
    """Raises InvalidRecipe if the back end has been closed, is not installed, or lacks what the search asks
    for: trials in parallel, or a pruner."""
    if backend == "sigopt":
        raise InvalidRecipe(
            "--backend sigopt: SigOpt has closed its service; optuna and ray run on your own machine"
        )
    if importlib.util.find_spec(backend) is None:
        raise InvalidRecipe(
            f"--backend {backend}: it is not installed: pip install '.[{'track' if backend == 'wandb' else 'search'}]'"
        )
    if backend != "ray" and space.parallel > 1:
        raise InvalidRecipe(f"search.parallel: {backend} runs one trial at a time; ray runs several")
    if backend == "wandb" and space.pruner != "none":
        raise InvalidRecipe("search.pruner: a sweep of wandb stops no trial; optuna and ray do")


@contextmanager
def options(backend: str, recipe: Recipe, folder: Path) -> Iterator[dict[str, Any]]:
    """Arguments of `Trainer.hyperparameter_search` for a back end, which lasts as long as the context does.

    Args:
        backend: a name in transformers' `HPSearchBackend` that `check` let pass.
        recipe: with a `search` block.
        folder: where the back end keeps what an interrupted search goes on from.

    Raises:
        InvalidRecipe: Weights & Biases refuses the sweep, for want of a key for example, or trials of Ray
            Tune failed.
    """
    if backend == "ray":
        with _local_ray():
            from ray.tune import TuneError

            try:
                yield _ray_options(recipe, folder)
            except TuneError as error:
                raise InvalidRecipe(
                    f"search: {error}; why says error.txt in the trial's folder under {folder / 'ray'}"
                ) from None
    elif backend == "wandb":
        import wandb

        try:
            yield _wandb_options(recipe.search)
        except wandb.errors.Error as error:
            raise InvalidRecipe(f"--backend wandb: {error}") from None
    else:
        yield _optuna_options(recipe.search, folder)


def _optuna_options(space: SearchSpace, folder: Path) -> dict[str, Any]:
    import optuna
    from optuna.trial import TrialState

    def draw(trial: optuna.Trial) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for name, parameter in space.parameters.items():
            if isinstance(parameter, Choice):
                drawn[name] = trial.suggest_categorical(name, parameter.labels)
            elif isinstance(parameter, Integer):
                drawn[name] = trial.suggest_int(name, parameter.low, parameter.high)
            else:
                drawn[name] = trial.suggest_float(
                    name, parameter.low, parameter.high, log=isinstance(parameter, LogUniform)
                )
        return drawn

    study_options = {
        "study_name": "search",
        "storage": f"sqlite:///{(folder / 'study.db').absolute()}",
        "load_if_exists": True,
    }
    study = optuna.create_study(direction=space.direction, **study_options)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a kill left it so
        study.tell(trial.number, state=TrialState.FAIL)
    done = len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))
    pruners = {
        "none": optuna.pruners.NopPruner(),
        "median": optuna.pruners.MedianPruner(),
        "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    return {
        "hp_space": draw,
        "n_trials": max(0, space.trials - done),
        # A sampler starts its random numbers anew: with the same seed a resumed search would draw its first
        # trials again.
        "sampler": optuna.samplers.TPESampler(seed=space.seed + len(study.trials)),
        "pruner": pruners[space.pruner],
        **study_options,
    }


def _ray_options(recipe: Recipe, folder: Path) -> dict[str, Any]:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule
    from ray.tune.search.basic_variant import BasicVariantGenerator

    space = recipe.search

    def draw(_: None) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for name, parameter in space.parameters.items():
            if isinstance(parameter, Choice):
                drawn[name] = tune.choice(parameter.labels)
            elif isinstance(parameter, Integer):
                drawn[name] = tune.randint(parameter.low, parameter.high + 1)
            else:
                drawn[name] = (tune.loguniform if isinstance(parameter, LogUniform) else tune.uniform)(
                    parameter.low, parameter.high
                )
        return drawn

    aim = {"metric": "objective", "mode": space.direction[:3], "time_attr": "training_iteration"}
    epochs = max(
        [recipe.epochs, *space.parameters["epochs"].extremes]
        if "epochs" in space.parameters
        else [recipe.epochs]
    )
    schedulers = {
        "none": FIFOScheduler,
        "median": lambda: MedianStoppingRule(**aim, grace_period=1, min_samples_required=5),
        # Ended by the run itself, not by the scheduler: hence one more than there will be.
        "halving": lambda: ASHAScheduler(
            **aim, max_t=math.ceil(epochs) + 1, grace_period=1, reduction_factor=2
        ),
    }
    gpus = torch.cuda.device_count() / space.parallel
    began = any((folder / "ray").glob("experiment_state-*.json"))
    return {
        "hp_space": draw,
        "n_trials": space.trials,
        "resources_per_trial": {
            "cpu": max(1, available_cores() // space.parallel),
            "gpu": gpus if gpus < 1 else int(gpus),
        },
        "search_alg": BasicVariantGenerator(random_state=space.seed, max_concurrent=space.parallel),
        "scheduler": schedulers[space.pruner](),
        "storage_path": str(folder.absolute()),
        "name": "ray",
        "resume": "AUTO+RESTART_ERRORED" if began else None,
        "progress_reporter": _Progress(),
        "verbose": 1,
    }


class _Progress:
    """What Tune wants of a reporter of progress: a bar that counts the trials that have ended."""

    def setup(self, total_samples: int | None = None, **_: object) -> None:
        self.bar = tqdm(total=total_samples, unit="trial")

    def should_report(self, trials: Sequence[Any], done: bool = False) -> bool:
        return True

    def report(self, trials: Sequence[Any], done: bool, *_: str) -> None:
        self.bar.update(sum(trial.is_finished() for trial in trials) - self.bar.n)
        if done:
            self.bar.close()


def _wandb_options(space: SearchSpace) -> dict[str, Any]:
    parameters: dict[str, dict[str, Any]] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            parameters[name] = {"values": parameter.labels}
        else:
            kind = {"log_uniform": "log_uniform_values", "uniform": "uniform", "int": "int_uniform"}[
                parameter.type
            ]
            parameters[name] = {"distribution": kind, "min": parameter.low, "max": parameter.high}
    return {
        "hp_space": lambda _: {"method": "random", "metric": {}, "parameters": parameters},
        "n_trials": space.trials,
        "metric": "eval/objective",
        "project": os.environ.get("WANDB_PROJECT", "kore-serve"),
    }


@contextmanager
def _local_ray() -> Iterator[None]:
    """Ray on this machine alone, with the cores that this process may use, gone afterwards."""
    # Before Ray is imported, which reads them then; its workers inherit them, and find this repository.
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
