"""The bundle: the folder that export writes and that serving and scoring read.

    bundle/
    ├── manifest.json         what the folder holds and what it was proven to do (`Manifest`)
    ├── SHA256SUMS            the sums of all other files, for `sha256sum --check`
    ├── tokenizers/*.json     one for each distinct input encoding
    ├── members/<name>/*.onnx one graph for each device and precision
    ├── members/*/weights.bin large tensors that two of these graphs share
    └── *.md                  the model card (README.md), licences and notices of the weights' sources

Nothing in it is code and nothing is unpickled. A folder that differs from its sums or manifest is refused.
Files and folders can be symbolic links, as in the cache of the Hugging Face hub, in DVC and in a Kubernetes
ConfigMap: the bytes count, wherever they are.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import UserError
from models.hub import BundlePlace, HubFailed, download, on_hub
from models.labels import RELATION_IDS, RELATIONS
from models.markers import Markers
from models.memory import large_blocks_apart
from models.precision import PREFERRED, Device, Precision
from models.restriction import TypeRestriction

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
CARD: Final = "README.md"
LONGEST_CARD_BYTES: Final = 1 << 20
MOST_BYTES: Final = 128 * 1024 * 1024
"""Of a manifest, of its sums, and of a tokenizer: they are read whole, into many times their size. A
vocabulary of a million tokens takes half as much."""


class BundleRefused(UserError, ValueError):
    """A bundle that must not be served. The message is one line that says why."""


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Printable, because logs, metrics and `/info` show it."""
Share = Annotated[float, Field(ge=0, le=1)]
Points = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Layers = Annotated[int, Field(ge=1, le=1000)]


class _Part(BaseModel):
    """Numbers have bounds: a window of 300 million tokens would take gigabytes, an infinite tolerance would
    prove nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Parity(_Part):
    """How an exported graph's answers differ from those of its source model, over real rows."""

    reference: str = Field("the PyTorch model", description="the model that the graph was compared with")
    rows: Count = Field(description="how many rows were compared")
    label_agreement: Share = Field(description="share of rows with the same label")
    largest_difference: Share = Field(description="largest difference of any probability of any row")
    mean_difference: Share = Field(description="mean over rows of the row's largest probability difference")
    micro_f1_before: Points = Field(description="of the source model")
    micro_f1: Points = Field(description="of the exported graph")
    auprc_before: Points | None = Field(None, description="of the source model; older bundles lack it")
    auprc: Points | None = Field(None, description="of the exported graph; older bundles lack it")


class ModelFile(_Part):
    """One graph of a member."""

    path: str
    device: Device
    precision: Precision
    weights: str | None = Field(
        None, description="file of large tensors in the graph's folder; several graphs can share it"
    )
    fusions: dict[str, int] = Field(
        description="fused operators in the graph; Attention equals the member's layers"
    )
    parity: Parity
    machine: str = Field(
        "not recorded", description="processor or GPU, and execution provider, of the parity run"
    )


class InputEncoding(_Part):
    """How a member's examples become token ids. Members with equal encodings share the work."""

    markers: Markers = Field(
        description="the name of a marker style, or a whole template (models/markers.py)"
    )
    tokenizer: str = Field(description="path of a tokenizers JSON file in the bundle")
    pad_token_id: int = Field(ge=0, lt=2**31)


class Member(_Part):
    """One classifier of the ensemble: a model, or one exit of a trunk with several.

    The manifest lists members in order of cost, cheapest first, and exits in order of their layers.
    """

    name: Name
    weight: float = Field(gt=0, le=1e6, description="in the vote")
    layers: Layers = Field(description="number of layers that its graph runs")
    continues: str | None = Field(
        None,
        description="name of the member before it on the same trunk, whose states its graph takes; without "
        "it, the graph starts with token ids",
    )
    encoding: InputEncoding
    files: list[ModelFile] = Field(min_length=1)

    def file_for(self, device: Device) -> ModelFile | None:
        """The graph to run on a device."""
        files = {file.precision: file for file in self.files if file.device == device}
        return next((files[precision] for precision in PREFERRED[device] if precision in files), None)


class GoldenRow(_Part):
    """A hand-written example with the answer at export. A server must reproduce it before it is ready."""

    example: dict[str, Any] = Field(description="a KLUE-RE row")
    relation: str
    probabilities: list[Share] = Field(min_length=len(RELATIONS), max_length=len(RELATIONS))


class Golden(_Part):
    """The golden rows of one device."""

    tolerance: float = Field(
        gt=0,
        le=0.2,
        description="largest allowed difference of any probability: floating point differs by machine",
    )
    rows: list[GoldenRow] = Field(min_length=1, max_length=1000)


class Quality(_Part):
    """The scores of the whole ensemble on labelled rows."""

    rows: Count
    data: str = Field(description="name and SHA-256 of the file of rows")
    micro_f1: Points
    auprc: Points


class Cascade(_Part):
    """How certain the vote must be after each member for the row to stop there."""

    thresholds: list[float] = Field(
        description="after each member but the last: the vote's highest probability at which a row stops"
    )
    shares: list[Share] = Field(description="share of the rows that one, two, … members voted on")
    quality: Quality = Field(description="with these thresholds, on the rows that they were fitted on")
    cross_fitted: Quality = Field(
        description="each half of the rows with thresholds fitted on the other half: expect this of new rows"
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> "Cascade":
        if len(self.shares) != len(self.thresholds) + 1 or not all(
            0 < threshold <= 1 for threshold in self.thresholds
        ):
            raise ValueError(
                "one threshold after each member but the last is required, above 0 and up to 1, "
                "and one share for each member"
            )
        return self


class Source(_Part):
    """The encoder and the data that the weights come from, and their licences."""

    encoder: str
    data: str
    licences: list[str]


class Manifest(_Part):
    """The content of `manifest.json`."""

    format_version: Literal[1]
    name: Name
    labels: list[str]
    max_length: int = Field(ge=16, le=65_536, description="the models' window in tokens")
    voting: Literal["weighted_mean_probability"]
    cascade: Cascade | None = Field(
        None, description="thresholds of early stopping; without them every member always votes"
    )
    type_restriction: TypeRestriction | None = Field(
        None, description="subject type -> object type -> relations; see models/restriction.py"
    )
    members: list[Member] = Field(min_length=1, max_length=1000)
    golden: dict[Device, Golden]
    quality: dict[Device, Quality]
    source: Source

    def chain(self, member: Member) -> list[Member]:
        """The stages that lead to a member, which is the last one; an ordinary member alone."""
        names = {each.name: each for each in self.members}
        chain = [member]
        while (before := chain[0].continues) is not None:
            chain.insert(0, names[before])
        return chain

    @model_validator(mode="after")
    def _check_labels(self) -> "Manifest":
        if tuple(self.labels) != RELATIONS:
            place = next(
                (i for i, pair in enumerate(zip(self.labels, RELATIONS, strict=False)) if pair[0] != pair[1]),
                None,
            )
            where = (
                f"there are {len(self.labels)}"
                if place is None
                else f"label {place} is {self.labels[place]!r}, not {RELATIONS[place]!r}"
            )
            raise ValueError(f"labels are not KLUE's 30 relations in their official order ({where})")
        return self

    @model_validator(mode="after")
    def _check_restriction(self) -> "Manifest":
        for subject, admitted_by_object in (self.type_restriction or {}).items():
            for object_, admitted in admitted_by_object.items():
                if unknown := sorted(set(admitted) - RELATION_IDS.keys()):
                    raise ValueError(
                        f"type_restriction: {subject}, {object_}: {unknown[0]!r} is none of the 30 relations"
                    )
        return self

    @model_validator(mode="after")
    def _check_names(self) -> "Manifest":
        names = [member.name for member in self.members]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"members: two are called {twice!r}")
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> "Manifest":
        ends: dict[str, Member] = {}  # earlier members that no other one continues yet
        for member in self.members:
            if member.continues is not None:
                before = ends.pop(member.continues, None)
                if before is None or before.encoding != member.encoding:
                    raise ValueError(
                        f"members: {member.name} continues {member.continues!r}; this must be an earlier "
                        "member with the same encoding, which no other member continues"
                    )
            ends[member.name] = member
        return self

    @model_validator(mode="after")
    def _check_cascade(self) -> "Manifest":
        if self.cascade is not None and len(self.cascade.shares) != len(self.members):
            raise ValueError(f"cascade: {len(self.cascade.shares)} stages for {len(self.members)} members")
        return self


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose files match its sums.

    Attributes:
        card: its model card, empty where there is none.
        size: of all its files, in bytes.
        sums: SHA-256 of each file but the sums themselves.
    """

    path: Path
    manifest: Manifest
    card: str = ""
    size: int = 0
    sums: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    @large_blocks_apart()
    def open(cls, place: BundlePlace) -> "Bundle":
        """Check and read a bundle; one on the hub is downloaded first (`models/hub.py`).

        Raises:
            BundleRefused: a file is missing, unreadable, altered or not listed, or the manifest's format or
                labels disagree; or the download failed.
        """
        if not on_hub(place):
            return cls._open_folder(Path(place))
        try:
            folder = download(str(place))
        except (HubFailed, ValueError) as error:
            raise BundleRefused(f"bundle {place}: {error}") from None
        try:
            return cls._open_folder(folder)
        except BundleRefused as error:
            again = f"to download it again, remove {folder.parents[1]}"
            raise BundleRefused(f"{error}; this is {place} in the cache: {again}") from None

    @classmethod
    def _open_folder(cls, path: Path) -> "Bundle":
        try:
            return cls._open(path)
        except OSError as error:
            where = f"{error.filename}: " if error.filename not in (None, str(path)) else ""
            raise BundleRefused(f"bundle {path}: {where}{error.strerror or error}") from None

    @classmethod
    def _open(cls, path: Path) -> "Bundle":
        if not path.is_dir():
            raise BundleRefused(f"bundle {path}: no such folder")
        # A link can be moved before the graphs are read: they must come from the folder that was checked.
        # Kubernetes moves `..data` when a ConfigMap changes; all its other links lead through that one.
        mounted = path / "..data"
        path = (mounted if mounted.is_dir() else path).resolve()
        sums = _check_sums(path)
        check_size(path, MANIFEST)
        try:
            manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
        except ValidationError as error:
            raise BundleRefused(f"bundle {path}: {MANIFEST}: {_first_fault(error)}") from None
        size = sum((path / name).stat().st_size for name in _files(path))
        bundle = cls(path, manifest, _card(path), size, sums)
        for device in bundle.devices():
            if device not in manifest.golden or device not in manifest.quality:
                raise BundleRefused(
                    f"bundle {path}: {MANIFEST}: golden or quality is missing for {device}, "
                    f"for which the members have graphs"
                )
        for name in bundle.named_files():
            if name not in sums:
                raise BundleRefused(f"bundle {path}: {MANIFEST} names {name}, which is not in the bundle")
        return bundle

    def named_files(self) -> set[str]:
        """The files that the manifest's members need, as paths relative to the bundle."""
        members = self.manifest.members
        files = [file for member in members for file in member.files]
        return {
            *(member.encoding.tokenizer for member in members),
            *(file.path for file in files),
            *(file.weights for file in files if file.weights),
        }

    def graph_sums(self, device: Device) -> list[str]:
        """SHA-256 of the files that a device runs. Bundles with equal ones cost the same."""
        files = [file for member in self.manifest.members if (file := member.file_for(device))]
        return [self.sums[name] for file in files for name in (file.path, file.weights) if name]

    def devices(self) -> list[Device]:
        """The devices for which every member has a graph."""
        devices: tuple[Device, ...] = ("cpu", "cuda")
        return [
            device for device in devices if all(member.file_for(device) for member in self.manifest.members)
        ]


def write(path: Path, manifest: Manifest) -> None:
    """Write the manifest into a folder that holds its files, then the sums of all files.

    Between the two writes the folder is not a valid bundle: use `export.replace` for a bundle in use.
    """
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    lines = [f"{_sha256(path / name)}  {name}\n" for name in sorted(_files(path))]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def _check_sums(path: Path) -> dict[str, str]:
    """The sum of each file, once every file has been found to match."""
    listed = _listed(path)
    present = set()
    for name in _files(path):
        if name not in listed:
            raise BundleRefused(f"bundle {path}: {name} is not listed in {SUMS}")
        present.add(name)
    for name in (MANIFEST, *sorted(listed)):
        if name not in present:
            raise BundleRefused(f"bundle {path}: {name} is missing")
    for name in sorted(present):
        if _sha256(path / name) != listed[name]:
            raise BundleRefused(f"bundle {path}: {name} has been altered: its SHA-256 differs from {SUMS}")
    return listed


def _card(path: Path) -> str:
    """The text of the model card. One of more than a megabyte is not read."""
    file = path / CARD
    if not file.is_file() or file.stat().st_size > LONGEST_CARD_BYTES:
        return ""
    return file.read_bytes().decode("utf-8", errors="replace")


def _listed(path: Path) -> dict[str, str]:
    """The sum of each file. Lines can end in CR LF."""
    try:
        check_size(path, SUMS)
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BundleRefused(f"bundle {path}: {SUMS} is missing or unreadable") from None
    listed: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if not name or name in listed:
            fault = f"lists {name} twice" if name else "is not a sum, two spaces and a file"
            raise BundleRefused(f"bundle {path}: {SUMS}: line {number} {fault}")
        listed[name] = digest
    return listed


def check_size(path: Path, name: str) -> None:
    """Check a file that is read whole.

    Raises:
        BundleRefused: it is larger than `MOST_BYTES`.
        OSError: it is missing.
    """
    size = (path / name).stat().st_size
    if size > MOST_BYTES:
        raise BundleRefused(f"bundle {path}: {name} has {size} bytes; at most {MOST_BYTES} are read")


def _files(path: Path) -> Iterator[str]:
    """The names of all files but the sums, through links. A link to nothing or in a circle is no file.

    Raises:
        BundleRefused: something is neither a file nor a folder.
        OSError: a folder cannot be read.
    """

    def stop(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(path, onerror=stop, followlinks=True):
        for file in (Path(folder, name) for name in names):
            name = file.relative_to(path).as_posix()
            if not file.is_file():
                raise BundleRefused(f"bundle {path}: {name} is neither a file nor a folder")
            if name != SUMS:
                yield name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    # of a missing field pydantic gives the whole manifest as input
    if where == "format_version" and fault["type"] != "missing":
        return f"format_version is {fault['input']!r:.40}; this version reads {FORMAT_VERSION}"
    message = str(fault["ctx"]["error"]) if "error" in fault.get("ctx", {}) else fault["msg"]
    return f"{where}: {message}" if where else message
