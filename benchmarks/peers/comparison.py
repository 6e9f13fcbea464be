"""Measures one server after the other, and keeps what each of them did."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.peers.report import Kind, Standing, agreement, merge_labels, summarise
from benchmarks.peers.servers import PEERS, Configuration, running
from benchmarks.peers.setup import ROUTE
from loadtest.sentences import Row
from loadtest.server import StartFailed
from loadtest.traffic import Measurement, make_requests, measure
from models.hub import BundlePlace

SCAN_BATCHES: Final = (1, 4, 16)
SCAN_CONNECTIONS: Final = 16
USUAL_BATCH: Final = 16
OURS: Final = Configuration("ours")


@dataclass(frozen=True, slots=True)
class Durations:
    """The seconds of one measurement."""

    warmup: float
    counted: float


@dataclass(slots=True)
class PeerBench:
    """The work of a comparison and its measurements so far."""

    bundle: BundlePlace
    rows: Sequence[Row]
    measurements: dict[Configuration, list[Measurement]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[Configuration, list[str]] = field(default_factory=lambda: defaultdict(list))

    def run(
        self, configuration: Configuration, levels: Sequence[int], durations: Durations
    ) -> list[Measurement]:
        """Start a server, load it at each number of connections, stop it. A failed start is recorded."""
        peer, done = PEERS[configuration.peer], list[Measurement]()
        try:
            with running(configuration, self.bundle, self.rows[0]) as port:
                requests = make_requests(port, map(peer.document, self.rows), ROUTE)
                for level in levels:
                    done.append(measure(port, requests, level, durations.warmup, durations.counted))
        except StartFailed as failure:
            print(f"{peer.title}, {configuration}: {failure}", file=sys.stderr)
            self.failures[configuration].append(str(failure))
        rates = "  ".join(f"{one.connections}: {one.rps:.1f} {one.errors or ''}" for one in done)
        print(f"  {peer.title}, {configuration}: requests/s at {rates}", file=sys.stderr)
        return done

    def scan(self, peer: str, cores: int, durations: Durations) -> dict[Configuration, float]:
        """Requests a second of a peer with each batch size and split of the cores."""
        return {
            configuration: measurement.rps
            for batch in SCAN_BATCHES
            for split in splits(cores)
            for configuration in [Configuration(peer, batch, *split)]
            for measurement in self.run(configuration, [SCAN_CONNECTIONS], durations)
        }

    def standing(self, kind: Kind, configuration: Configuration) -> Standing:
        """A server's figures, and its agreement with ours."""
        labels, relabelled = merge_labels(self.measurements[configuration])
        reference, _ = merge_labels(self.measurements[OURS])
        return Standing(
            kind=kind,
            title=PEERS[configuration.peer].title,
            configuration=str(configuration),
            figures=summarise(self.measurements[configuration]),
            agreement=agreement(labels, reference),
            relabelled=relabelled,
            failures=self.failures[configuration],
        )


def splits(cores: int) -> list[tuple[int, int]]:
    """Workers and threads of each: one worker with all cores, and one for each core."""
    return list(dict.fromkeys([(1, cores), (cores, 1)]))


def places(
    peers: Sequence[str], cores: int, scans: dict[str, dict[Configuration, float]]
) -> list[tuple[Kind, Configuration]]:
    """The servers to compare. A peer whose best configuration is its usual one has two places and runs
    once."""
    found: list[tuple[Kind, Configuration]] = []
    for peer in peers:
        if peer == "ours":
            found.append(("ours", OURS))
        elif not PEERS[peer].batches:
            kind: Kind = "plain" if peer == "plain" else "bounded"
            found += [(kind, Configuration(peer, 1, *split)) for split in splits(cores)]
        else:
            found.append(("batch 16", Configuration(peer, USUAL_BATCH, 1, cores)))
            if rates := scans.get(peer):
                found.append(("best", max(rates, key=lambda configuration: rates[configuration])))
    return found
