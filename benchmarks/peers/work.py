"""The work that every peer does: a KLUE-RE row in, every member votes, a relation out. The models are ours,
the serving is the peer's."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.ensemble import EncodedExample, Ensemble
from models.example import Example

Answer = dict[str, Any]

ROUTE = "/relations"

BOUNDED = "PEER_BOUNDED"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a peer is told. It travels in the environment, since these tools start their own processes and
    parse their own flags.

    Attributes:
        port: on 127.0.0.1.
        bundle: folder of the ensemble.
        batch: most examples in a batch.
        max_wait_ms: longest wait of the first example for company.
        workers: processes that hold the ensemble.
        threads: cores that one run may use in each of them.
    """

    port: int
    bundle: Path
    batch: int
    max_wait_ms: int
    workers: int
    threads: int

    @classmethod
    def from_environment(cls) -> "Setup":
        """The inverse of `environment`."""
        values = {field.name: os.environ[f"PEER_{field.name.upper()}"] for field in fields(cls)}
        bundle = Path(values.pop("bundle"))
        return cls(bundle=bundle, **{name: int(value) for name, value in values.items()})

    def environment(self) -> dict[str, str]:
        """The variables that `from_environment` reads."""
        return {f"PEER_{field.name.upper()}": str(getattr(self, field.name)) for field in fields(self)}


class Work:
    """The loaded ensemble, once in each of a peer's worker processes."""

    def __init__(self, setup: Setup) -> None:
        self._ensemble = Ensemble.load(Bundle.open(setup.bundle), threads=setup.threads, cascade_caution=1.0)

    def encode(self, row: Mapping[str, Any]) -> EncodedExample:
        """A parsed request body, checked and tokenised."""
        return self._ensemble.encode(Example.from_row(row))

    def predict(self, rows: Sequence[EncodedExample]) -> list[Answer]:
        """One batch through every member, as the JSON objects that our own server answers with."""
        return [prediction.document() for prediction in self._ensemble.run(rows)]
