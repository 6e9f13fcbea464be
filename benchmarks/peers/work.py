"""The work of every peer: a KLUE-RE row in, every member votes, a relation out. The models are KoRE Serve's,
the server is the peer's."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers.setup import PeerSetup, PredictionJson
from models.bundle import Bundle
from models.ensemble import EncodedExample, Ensemble
from models.example import Example


class PeerWork:
    """The loaded ensemble, once in each of a peer's worker processes."""

    def __init__(self, setup: PeerSetup) -> None:
        self._ensemble = Ensemble.load(Bundle.open(setup.bundle), threads=setup.threads, cascade_caution=1.0)

    def encode(self, row: Mapping[str, Any]) -> EncodedExample:
        """A parsed request body, checked and tokenised."""
        return self._ensemble.encode(Example.from_row(row))

    def predict(self, rows: Sequence[EncodedExample]) -> list[PredictionJson]:
        """One batch through every member, as the JSON objects of `POST /relations`."""
        return [prediction.document() for prediction in self._ensemble.run(rows)]
