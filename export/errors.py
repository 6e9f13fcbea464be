"""Why an export failed. The user sees each error as one line."""

from models.errors import UserError


class ExportFailed(UserError):
    """Nothing was written; the message says why."""


class InvalidOptions(ExportFailed):
    """The options of the command contradict each other or the files; the message names the option."""


class InvalidCheckpoint(ExportFailed):
    """A folder that is not a checkpoint this project can export; the message names the folder and the
    fault."""


class ConversionFailed(ExportFailed):
    """A graph does not have the expected form; the message says how it differs."""


class ParityFailed(ExportFailed):
    """A graph does not answer as its model does; the message gives the figures and the limit."""
