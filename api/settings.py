"""The settings of `python -m api`: those of the engine (`engine/settings.py`) and those of HTTP.

The environment sets them with the prefix `KORE_`, the command line as flags, which win.
"""

import contextlib
import difflib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import CliApp, SettingsConfigDict

from engine.settings import EngineSettings

PREFIX: Final = "KORE_"
DEFAULT_PORT: Final = 8000
READ_ELSEWHERE: Final = frozenset({"KORE_ENCODER", "KORE_ABLATION"})  # recipes and benchmarks read these
KUBERNETES: Final = re.compile(r"KORE_(SERVICE_HOST|SERVICE_PORT\w*|PORT_[0-9]+_\w+)")
"""What Kubernetes writes for a service that is called kore."""
SENDABLE: Final = re.compile(r"[ -~]+")
"""A bearer token that fits into an `Authorization` header."""


class Settings(EngineSettings):
    """Serve a bundle over HTTP. Every option is also an environment variable: --max-queue is KORE_MAX_QUEUE.

    Example: python -m api --bundle bundles/mine --port 8080
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_prog_name="python -m api",
    )

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="port to listen on")
    http_processes: int = Field(
        0,
        ge=0,
        le=256,
        description="front processes that accept and read requests for one engine process; 0: no front "
        "processes, the engine's process does it",
    )
    max_examples: int = Field(
        256, ge=1, description="most examples in a request, pairs included; never above max_queue"
    )
    max_queue: int = Field(1024, ge=1, description="examples that can wait; further requests get 429")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1, description="largest request body, in bytes")
    max_wait_ms: float = Field(
        0,
        ge=0,
        le=10_000,
        description="how long a waiting request lets a free lane wait for more requests, in milliseconds",
    )
    request_timeout_s: float = Field(
        30,
        gt=0,
        le=86_400,
        description="a request's deadline, in seconds; the header X-Request-Timeout overrules it",
    )
    header_timeout_s: float = Field(
        10, gt=0, le=3600, description="seconds in which a connection must send a complete request head"
    )
    cors_origins: list[str] = Field(
        [], description="origins of web pages that can call this server, as a JSON list; none by default"
    )
    swap_limit_s: float = Field(
        600,
        gt=0,
        le=86_400,
        description="seconds in which a new bundle must load; after that the old one goes on serving",
    )
    drain_delay_s: float = Field(
        5,
        ge=0,
        le=3600,
        description="seconds between SIGTERM (/ready answers 503) and the first refused request",
    )
    drain_grace_s: float = Field(
        30, ge=0, le=3600, description="seconds that the requests inside can then take to finish"
    )
    api_key: SecretStr | None = Field(
        None, min_length=1, description="bearer token that callers must send; none by default"
    )
    metrics: bool = Field(True, description="whether /metrics answers")
    page: bool = Field(True, description="whether / answers with the page for a browser")
    docs: bool = Field(True, description="whether /docs and /openapi.json answer")
    access_log: bool = Field(False, description="whether each request gets a line in the log")
    log_format: Literal["json", "text"] = Field("json", description="one JSON object per line, or plain text")

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_kubernetes(cls, port: object) -> object:
        return DEFAULT_PORT if _from_kubernetes(port) else port

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value().strip()  # a file's last line break is not part of the key
        if not text:
            raise ValueError("it is blank; an empty file could be the reason")
        if not SENDABLE.fullmatch(text):
            raise ValueError("no client can send it in a header; use printable ASCII characters only")
        return SecretStr(text)

    @property
    def example_limit(self) -> int:
        """Most examples that a request can hold: more than the queue takes could never be admitted."""
        return min(self.max_examples, self.max_queue)


def read_settings(argv: list[str]) -> Settings:
    """Settings from the environment and the command line, which wins.

    Raises:
        SystemExit: 2, after one plain line on stderr for each setting that is wrong.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return CliApp.run(Settings, cli_args=argv)
    except SystemExit as leaving:
        if leaving.code:
            last = complaint.getvalue().strip().splitlines()[-1]
            print(f"api: {last.partition('error: ')[2]}", file=sys.stderr)
        raise
    except ValidationError as error:
        for found in error.errors():
            name = "_".join(map(str, found["loc"])).upper()
            print(f"api: {PREFIX}{name}: {found['msg']}", file=sys.stderr)
        raise SystemExit(2) from None


def warn_of_unknown(log: logging.Logger) -> None:
    """Log each `KORE_*` variable that no setting reads: a misspelt one would be ignored without a word."""
    if _from_kubernetes(port := os.environ.get(f"{PREFIX}PORT")):
        log.warning("KORE_PORT=%s is ignored: Kubernetes writes it for a service called kore", port)
    for name, meant in _unknown():
        log.warning("%s is not a setting and is ignored%s", name, f"; did you mean {meant}?" if meant else "")


def _from_kubernetes(port: object) -> bool:
    return isinstance(port, str) and port.startswith("tcp://")


def _unknown() -> Iterator[tuple[str, str | None]]:
    known = [name.upper() for name in Settings.model_fields]
    for name in sorted(os.environ):
        upper = name.upper()  # as pydantic-settings reads them
        setting = upper.removeprefix(PREFIX)
        ours = setting in known or upper in READ_ELSEWHERE or KUBERNETES.fullmatch(upper)
        if upper.startswith(PREFIX) and not ours:
            meant = next(iter(difflib.get_close_matches(setting, known, n=1)), None)
            yield name, meant and PREFIX + meant
