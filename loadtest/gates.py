"""The gates file (loadtest/gates.yaml): profiles, their stages, and the gates that they must hold."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.bodies import Traffic
from loadtest.figures import StageFigures
from loadtest.outcomes import PlannedStage

DEFAULT_GATES = Path(__file__).with_name("gates.yaml")

StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class InvalidGates(ValueError):
    """A gates file that cannot be used; the message names the file and the field."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gates(Strict):
    """The limits of a stage. Latencies count from when a request was due; without a limit a latency is not
    gated."""

    p50_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    error_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of requests that got neither a right answer nor 429",
    )
    refused_share: float = Field(0.0, ge=0, le=1, description="share of requests that got 429")

    def check(self, stage: str, found: StageFigures) -> dict[str, bool]:
        """A sentence for each gate, with figure and limit -> whether it holds. A missing figure breaks its
        gate."""
        promises = {}
        for gate, limit in self.model_dump(exclude_none=True).items():
            value = getattr(found, gate)
            if value is None:
                promises[f"{stage}: {gate} at most {limit:g}, but nothing was answered rightly"] = False
            elif value <= limit:
                promises[f"{stage}: {gate} {value:.6g}, at most {limit:g}"] = True
            else:
                promises[f"{stage}: {gate} {value:.6g}, at most {limit:g}: {value - limit:.6g} over"] = False
        return promises


class Stage(Strict):
    """A stretch of a profile with its own rate of arrivals."""

    name: StageName
    seconds: float = Field(gt=0, le=86_400)
    load: float | None = Field(None, gt=0, le=10, description="share of the measured saturation")
    rate: int | None = Field(
        None, ge=1, le=100_000, description="examples a second; with one example a request, requests a second"
    )
    gated: bool = Field(True, description="false for stages that warm up or empty a queue")
    gates: Gates | None = Field(None, description="in place of the profile's")

    @model_validator(mode="after")
    def _check(self) -> "Stage":
        if (self.load is None) == (self.rate is None):
            raise ValueError(
                "either load (a share of saturation) or rate (examples a second) is required, not both"
            )
        if self.gates and not self.gated:
            raise ValueError("a stage with gates cannot be gated: false")
        return self

    def plan(self, saturation: float | None) -> PlannedStage:
        """The stage with its rate in whole examples a second, at least 1; `load` is a share of
        `saturation`."""
        if self.rate is not None:
            return PlannedStage(self.name, self.seconds, self.rate)
        assert self.load is not None
        assert saturation is not None
        return PlannedStage(self.name, self.seconds, max(1, round(self.load * saturation)))


class Profile(Strict):
    """A kind of load test: its traffic, stages and gates."""

    traffic: Traffic
    gates: Gates = Field(description="of every gated stage without its own gates")
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Profile":
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("two stages have the same name")
        if not any(stage.gated for stage in self.stages):
            raise ValueError("at least one stage must be gated")
        return self

    @property
    def needs_saturation(self) -> bool:
        """Whether a rate is a share of the saturation, which then has to be measured first."""
        return any(stage.load is not None for stage in self.stages)

    def check(self, figures: dict[str, StageFigures]) -> dict[str, bool]:
        """The promises of all gated stages; `figures` by the stage's name."""
        gated = (stage for stage in self.stages if stage.gated)
        return {
            text: kept
            for stage in gated
            for text, kept in (stage.gates or self.gates).check(stage.name, figures[stage.name]).items()
        }


class GatesFile(Strict):
    profiles: dict[StageName, Profile] = Field(min_length=1)


def read_profile(path: Path, name: str) -> Profile:
    """One profile of a gates file.

    Raises:
        InvalidGates: the file is missing or not YAML, a field is unknown or has the wrong type, or the file
        has no such profile.
    """
    try:
        profiles = GatesFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).profiles
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
        raise InvalidGates(f"{path}: {'; '.join(faults)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidGates(f"{path}: {' '.join(str(error).split())}") from None
    if name not in profiles:
        raise InvalidGates(f"{path}: no profile {name!r}; it has {', '.join(profiles)}")
    return profiles[name]
