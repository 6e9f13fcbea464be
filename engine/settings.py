"""How a bundle runs on a machine, as settings: each one's default is written here once.

The environment sets them with the prefix `KORE_`. `python -m api` and `python -m scoring` add their own
options. Facts about the model (window, labels, tokenizer) are not settings: they travel in the bundle.
"""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.hub import BundlePlace, check, on_hub

DEFAULT_BUNDLE: Final = Path(__file__).resolve().parents[1] / "bundles" / "default"

AskedDevice = Literal["auto", "cpu", "cuda"]


class EngineSettings(BaseSettings):
    """What decides how fast a bundle runs, and which bundle."""

    model_config = SettingsConfigDict(env_prefix="KORE_", extra="ignore", frozen=True)

    bundle: BundlePlace = Field(
        DEFAULT_BUNDLE,
        description="folder of the ensemble to run, or hf://owner/name@revision on the Hugging Face hub; the "
        "API opens it again on SIGUSR1",
    )
    device: AskedDevice = Field(
        "auto", description="where the bundle runs; auto takes a GPU if the bundle and the machine have one"
    )
    lanes: int | None = Field(
        None,
        ge=1,
        le=256,
        description="batches that run at a time; by default the fastest, measured at start",
    )
    threads: int | None = Field(
        None, ge=1, le=256, description="cores per lane; by default the fastest, measured at start"
    )
    token_budget: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="tokens that a batch can hold, padding included; by default what 0.25 seconds allow",
    )
    all_cores_for_one: bool = Field(
        True, description="a lone request uses all cores (the members are loaded twice)"
    )
    tuning_s: float = Field(
        7.0,
        ge=0,
        le=600,
        description="seconds for measuring lanes and batches at start; one round always finishes",
    )
    cascade_caution: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0: rows stop early at the bundle's thresholds; 1: every member votes on every row; "
        "values between raise the thresholds (in fp16 every member always votes)",
    )

    @field_validator("bundle")
    @classmethod
    def _check_bundle(cls, bundle: BundlePlace) -> BundlePlace:
        if bundle == "":
            raise ValueError("it is blank, which would mean the current folder; name the bundle's folder")
        check(bundle)
        return bundle if on_hub(bundle) else Path(bundle)
