"""The settings of a peer, and the form of its requests."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from models.hub import BundlePlace, on_hub

PredictionJson = dict[str, Any]

ROUTE = "/relations"

BOUNDED = "PEER_BOUNDED"

CLASSIFIER = "classifier"
"""The name of the plain classifier in servers that want one in each request."""


@dataclass(frozen=True, slots=True)
class PeerSetup:
    """A peer's settings. They travel in the environment, because these tools start their own processes and
    parse their own flags.

    Attributes:
        port: on 127.0.0.1.
        bundle: folder or address of the ensemble; for some peers the folder of a plain classifier.
        batch: most examples in a batch.
        max_wait_ms: longest wait of a batch's first example for others.
        workers: processes that hold the ensemble.
        threads: cores of a run in each of them.
    """

    port: int
    bundle: BundlePlace
    batch: int
    max_wait_ms: int
    workers: int
    threads: int

    @classmethod
    def from_environment(cls) -> "PeerSetup":
        """The inverse of `environment`."""
        values = {field.name: os.environ[f"PEER_{field.name.upper()}"] for field in fields(cls)}
        bundle = values.pop("bundle")
        return cls(
            bundle=bundle if on_hub(bundle) else Path(bundle),
            **{name: int(value) for name, value in values.items()},
        )

    def environment(self) -> dict[str, str]:
        """Variables for `from_environment`."""
        return {f"PEER_{field.name.upper()}": str(getattr(self, field.name)) for field in fields(self)}
