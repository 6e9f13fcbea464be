"""Errors that a user can fix. Each message says what is wrong, where, and what to do."""

from models.errors import UserError


class TrainingError(UserError, ValueError):
    """The base of these errors."""


class InvalidArguments(TrainingError):
    """Options that do not go together, or an option with a wrong value. The message names the option."""


class InvalidRecipe(TrainingError):
    """A recipe that cannot be run. The message names the file or the field."""


class Diverged(InvalidRecipe):
    """The model's outputs are no longer finite numbers."""

    def __init__(self) -> None:
        super().__init__(
            "learning_rate: training diverged: the model's outputs are not finite; "
            "use a lower learning rate or a longer warm-up"
        )


class InvalidCheckpoint(TrainingError):
    """A folder that is not a finished member. The message names the folder and the fault."""


class WorseCalibration(TrainingError):
    """A calibration that makes a member worse on rows that it was not fitted on. The message says how."""


class InvalidTeachers(TrainingError):
    """A file of teachers' probabilities that cannot be used. The message names the file and the fault."""


class UnfinishedRun(TrainingError):
    """A folder without a finished run. The message names the folder and the file."""


class RunFailed(TrainingError):
    """A training process of a study failed. The message names the run and its log file."""

    exit_status = 1
