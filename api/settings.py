"""Every setting of the server, each written once: from the environment with the prefix `KORE_`, or as a flag of `python -m api`.

What belongs to the model (window, labels, tokenizer) is not here: it travels in the bundle.
"""

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from engine.settings import EngineSettings


class Settings(EngineSettings):
    """Machine facts and limits of one server process."""

    model_config = SettingsConfigDict(
        env_prefix="KORE_",
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_prog_name="python -m api",
    )

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    max_examples: int = Field(256, ge=1, description="examples a request may hold (never above max_queue)")
    max_queue: int = Field(1024, ge=1, description="examples that may wait; beyond them requests get 429")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1, description="largest request body in bytes")
    max_wait_ms: float = Field(
        0, ge=0, le=10_000, description="milliseconds a free lane waits for company for the oldest example"
    )
    request_timeout_s: float = Field(
        30,
        gt=0,
        le=86_400,
        description="a request's deadline in seconds, unless X-Request-Timeout says otherwise",
    )
    drain_delay_s: float = Field(
        5,
        ge=0,
        le=3600,
        description="seconds between SIGTERM (/ready turns 503) and the first refused request",
    )
    drain_grace_s: float = Field(
        30, ge=0, le=3600, description="seconds that requests inside may then take to finish"
    )
    api_key: SecretStr | None = Field(
        None, min_length=1, description="bearer token that callers must send; none by default"
    )
    metrics: bool = Field(True, description="whether /metrics answers")
    docs: bool = Field(True, description="whether /docs and /openapi.json answer")
    log_format: Literal["json", "text"] = Field("json", description="one JSON object a line, or plain text")

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not key.get_secret_value().strip():
            raise ValueError("it is blank: an empty file, perhaps")
        return key

    @property
    def example_limit(self) -> int:
        """Examples a request may really hold: more than the queue takes could never be admitted."""
        return min(self.max_examples, self.max_queue)
