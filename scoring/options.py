"""What one run of scoring is told: its options, from the command line and the environment.

The flags of the engine are the fields of `EngineSettings`: one rule checks a flag and its `KORE_` variable,
and the flag wins. Nothing heavy is imported here, so --help answers at once.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from engine.settings import EngineSettings
from models.command import CommandParser, whole_number
from models.files.encodings import is_encoding
from models.files.forms import INPUT_FORMS, InputForm
from models.labels import RELATIONS
from scoring.forms import LABEL_ORDERS, OUTPUT_FORMS, LabelOrder, OutputForm

ENGINE_FIELDS: Final = tuple(name for name in EngineSettings.model_fields if name != "all_cores_for_one")
"""`all_cores_for_one` is for lone requests; a file has none."""

WINDOW_ROWS: Final = 2048
"""Rows that are sorted by length together. A kill costs at most two windows. With this many rows, batches
contain hardly any padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """One run: what is read, what is written, and how.

    Attributes:
        input, output: paths; `-` is standard input or output. Empty until a file is chosen.
        resume: continue an earlier run of the same job, or start.
        strict: stop at the first row that cannot be scored, without an output.
        input_form, output_form: `None`: the content or the name tells.
        encoding: of the input's text; `None`: its first bytes tell.
        top_k: probabilities per row, highest first.
        label_order: of a submission's probabilities.
        window: rows that are sorted and finished together.
        engine: which bundle runs, and how.
    """

    input: str = ""
    output: str = ""
    resume: bool = True
    strict: bool
    input_form: InputForm | None
    encoding: str | None
    output_form: OutputForm | None
    top_k: int
    label_order: LabelOrder
    window: int
    engine: EngineSettings


class ScoringParser(CommandParser):
    """The parser of a scoring command."""

    def add_label_order(self) -> None:
        self.add_argument(
            "--label-order",
            choices=LABEL_ORDERS,
            default="competition",
            help="order of a submission's 30 probabilities (default: competition)",
        )

    def add_scoring_options(self) -> None:
        """The options that every way to score has."""
        add = self.add_argument
        add("--strict", action="store_true", help="stop at the first row that cannot be scored; no output")
        add(
            "--from",
            dest="input_form",
            choices=INPUT_FORMS,
            help="form of the input (default: its content or its ending tells)",
        )
        add(
            "--encoding",
            type=_encoding,
            metavar="NAME",
            help="encoding of the input, such as cp949 (default: found among UTF-8, UTF-16 and cp949)",
        )
        add(
            "--to",
            dest="output_form",
            choices=OUTPUT_FORMS,
            help="form of the output (default: its ending tells)",
        )
        add(
            "--top-k",
            type=whole_number(1, len(RELATIONS)),
            default=1,
            metavar="K",
            help=f"probabilities per row, highest first; 1 to {len(RELATIONS)} (default: 1)",
        )
        self.add_label_order()
        add(
            "--window",
            type=whole_number(1, 1_000_000),
            default=WINDOW_ROWS,
            metavar="ROWS",
            help=f"rows that are sorted by length and finished together (default: {WINDOW_ROWS})",
        )
        for name in ENGINE_FIELDS:
            add(_flag(name), metavar=name.rpartition("_")[2].upper(), help=_engine_help(name))

    def scoring_options(self, given: argparse.Namespace) -> ScoringOptions:
        """The options of one run, from the parsed arguments."""
        named = {name: value for name, value in vars(given).items() if name in ScoringOptions.__slots__}
        return ScoringOptions(**named, engine=self._engine_settings(given))

    def _engine_settings(self, given: argparse.Namespace) -> EngineSettings:
        flags: dict[str, Any] = {
            name: value for name in ENGINE_FIELDS if (value := getattr(given, name)) is not None
        }
        try:
            return EngineSettings(**flags, all_cores_for_one=False)
        except ValidationError as error:
            fault = error.errors()[0]
            name = str(fault["loc"][0]).lower()
            where = _flag(name) if name in flags else _variable(name)
            self.error(f"argument {where}: {fault['msg']}, not {fault['input']!r}")


def parse(argv: list[str] | None, text: str | None) -> ScoringOptions:
    """Read the arguments of `python -m scoring`.

    Args:
        text: the command's docstring, for --help.

    Raises:
        SystemExit: 2 after one line on stderr if an argument or a `KORE_` variable is wrong; 0 after --help.
    """
    parser = ScoringParser("scoring", text)
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="rows: JSON, JSONL, competition CSV or TSV (also .gz or .zst), Parquet, Arrow, "
        "or a folder of parts; - is standard input",
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="predictions: .jsonl, .csv (also .gz or .zst), .parquet or submission.csv; - is standard output",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue an earlier run of the same job that was stopped, or start",
    )
    parser.add_scoring_options()
    return parser.scoring_options(parser.parse_args(argv))


def _engine_help(name: str) -> str:
    field = EngineSettings.model_fields[name]
    text = (field.description or "").replace("%", "%%")
    if field.default is None:
        return f"{text} ({_variable(name)})"
    default = os.path.relpath(field.default) if isinstance(field.default, Path) else field.default
    return f"{text} ({_variable(name)}; default: {default})"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"KORE_{name.upper()}"


def _encoding(text: str) -> str:
    if not is_encoding(text):
        raise argparse.ArgumentTypeError(f"Python knows no text encoding {text!r}; for example cp949")
    return text
