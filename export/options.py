"""The options of `python -m export`: read, and checked as far as that needs no heavy library."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from pydantic import ValidationError

from export.command import ExportParser
from export.errors import InvalidOptions
from models.bundle import MANIFEST, SUMS, Source
from models.command import positive_numbers
from models.markers import MARKER_STYLES, MarkerTemplate, read_markers
from models.precision import PRECISIONS, Precision

Value = TypeVar("Value")
LabelOrder = Literal["klue", "competition"]
RESERVED: Final = (MANIFEST, SUMS, "members", "tokenizers")
"""Names that the bundle needs itself."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """One export.

    Attributes:
        checkpoints: folders of fine-tuned members.
        output: folder of the new bundle.
        data: labelled rows for the proof.
        calibration: labelled rows for the scales of int8's activations. By default one half of the
            sentences of `data`; the proof is then on the other half.
        precisions: graphs that the bundle contains. fp32 is converted and proven in any case. auto: for
            each device the fastest graph that passes the proof.
        weights: in the vote: one for each checkpoint, or one for each exit of each checkpoint, in the order
            of the checkpoints; by default equal. fit: see `weights_data`.
        weights_data: labelled rows for fitting the weights; by default `data`.
        markers: of the checkpoints whose `config.json` names none: one for all, or one for each.
        label_orders: of the heads, over what `config.json` says: one for all, or one for each.
        name: of the bundle; by default that of the folder.
        source: encoder, data and licences, for the manifest.
        notices: files that the bundle contains.
        type_restriction: labelled rows. A pair of entity types then gets only relations that it has in them.
    """

    checkpoints: Sequence[Path]
    output: Path
    data: Path
    calibration: Path | None = None
    precisions: tuple[Precision, ...] | Literal["auto"] = ("int8",)
    weights: tuple[float, ...] | Literal["fit"] | None = None
    weights_data: Path | None = None
    markers: tuple[str | MarkerTemplate, ...] = ()
    label_orders: tuple[LabelOrder, ...] = ()
    name: str | None = None
    source: Source | None = None
    notices: Sequence[Path] = ()
    type_restriction: Path | None = None

    @property
    def given_weights(self) -> tuple[float, ...]:
        """One weight for each checkpoint, or for each of their exits; equal until they are fitted."""
        return self.weights if isinstance(self.weights, tuple) else (1.0,) * len(self.checkpoints)

    @property
    def member_markers(self) -> Sequence[str | MarkerTemplate | None]:
        """The markers of each checkpoint."""
        return _for_each(self.markers, len(self.checkpoints))

    @property
    def member_orders(self) -> Sequence[LabelOrder | None]:
        """The label order of each checkpoint."""
        return _for_each(self.label_orders, len(self.checkpoints))

    def check(self) -> None:
        """Refuse options that cannot work, before a checkpoint is loaded.

        Raises:
            InvalidOptions: the message names the option.
        """
        count = len(self.checkpoints)
        if self.output.exists():
            raise InvalidOptions(f"--output {self.output}: exists already; name a new folder")
        if len(self.given_weights) < count:  # more can be those of exits
            raise InvalidOptions(f"--weights: {len(self.given_weights)} given for {count} checkpoints")
        if self.weights_data is not None and self.weights != "fit":
            raise InvalidOptions("--weights-data: only --weights fit uses it")
        for flag, given in (("--markers", self.markers), ("--label-order", self.label_orders)):
            if len(given) not in (0, 1, count):
                raise InvalidOptions(f"{flag}: {len(given)} given for {count} checkpoints")
        if self.precisions != "auto":
            for precision in self.precisions:
                base = PRECISIONS[precision].weights_of
                if base and base not in self.precisions:
                    raise InvalidOptions(
                        f"--precision {precision}: it shares the weights of {base}; give {base},{precision}"
                    )
        for notice in self.notices:
            if not notice.is_file():
                raise InvalidOptions(f"--notice {notice}: no such file")
            if [other.name for other in self.notices].count(notice.name) > 1:
                raise InvalidOptions(f"--notice {notice}: another one is called {notice.name} too")
            if notice.name in RESERVED:
                raise InvalidOptions(
                    f"--notice {notice}: the bundle has a file {notice.name}; rename the notice"
                )


def parse(parser: ExportParser, argv: list[str] | None) -> ExportOptions:
    """Read the arguments of `python -m export`.

    Raises:
        SystemExit: 2 after one line on stderr if an argument is wrong; 0 after --help.
    """
    add, rows = parser.add_argument, parser.add_rows
    add("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="folder of a fine-tuned member")
    add("--output", type=Path, required=True, metavar="BUNDLE", help="folder to write; it must not exist")
    rows("--data", "labelled KLUE-RE rows for the proof", required=True)
    rows(
        "--calibration", "rows for the scales of int8's activations (default: half of --data, not proven on)"
    )
    add(
        "--precision",
        dest="precisions",
        type=_precisions,
        default=("int8",),
        metavar="P,P,…",
        help="graphs of the bundle: int8, fp32 for CPUs; fp16, fp16-packed (no padding), fp16-from-int8 "
        "(int8's weights) for CUDA; auto: the fastest of each device that passes the proof (default: int8)",
    )
    add(
        "--markers",
        type=_markers,
        default=(),
        metavar="STYLE|FILE,…",
        help="how checkpoints mark entities, if config.json does not say it; one for all or one for each: a "
        f"template file, or {', '.join(MARKER_STYLES)}",
    )
    add(
        "--label-order",
        dest="label_orders",
        type=_label_orders,
        default=(),
        metavar="ORDER,…",
        help="order of the heads' 30 labels, klue or competition; one for all or one for each (default: that "
        "of id2label)",
    )
    add(
        "--weights",
        type=_weights,
        metavar="W,W,…|fit",
        help="weights in the vote, one for each checkpoint or one for each exit; fit: those that make the "
        "labels of --weights-data likeliest (default: equal)",
    )
    rows("--weights-data", "rows to fit the weights on (default: --data, whose figures are then optimistic)")
    add("--name", help="name of the bundle (default: that of the folder)")
    add(
        "--source", type=_source, metavar="JSON", help="file with encoder, data and licences for the manifest"
    )
    add(
        "--notice",
        dest="notices",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="file to copy into the bundle",
    )
    rows("--type-restriction", "rows; a pair of entity types gets only relations that it has in them")
    return ExportOptions(**vars(parser.parse_args(argv)))


def _precisions(text: str) -> tuple[Precision, ...] | Literal["auto"]:
    if text == "auto":
        return "auto"
    names = dict.fromkeys(text.split(","))
    if unknown := names.keys() - PRECISIONS.keys():
        known = ", ".join(PRECISIONS)
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is not a precision; give auto or some of {known}")
    return tuple(precision for name in names for precision in PRECISIONS if precision == name)


def _weights(text: str) -> tuple[float, ...] | Literal["fit"]:
    if text == "fit":
        return "fit"
    return positive_numbers(text)


def _markers(text: str) -> tuple[str | MarkerTemplate, ...]:
    try:
        return tuple(map(read_markers, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _label_orders(text: str) -> tuple[LabelOrder, ...]:
    names = tuple(text.split(","))
    if unknown := next((name for name in names if name not in get_args(LabelOrder)), None):
        raise argparse.ArgumentTypeError(f"{unknown!r} is not an order; give klue or competition")
    return names


def _for_each(given: Sequence[Value], count: int) -> Sequence[Value | None]:
    """One value for each checkpoint, of one for all, one for each, or none."""
    return list(given) * count if len(given) == 1 else list(given) or [None] * count


def _source(path: str) -> Source:
    try:
        return Source.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        raise argparse.ArgumentTypeError(
            f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        ) from None
