"""Measures one server after the other, and keeps what each of them did."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.peers.report import OURS, RUST, Kind, Standing, agreement, merge_labels, summarise
from benchmarks.peers.servers import PEERS, Configuration, Peer, running
from loadtest.sentences import Row
from loadtest.server import StartFailed
from loadtest.traffic import Measurement, make_requests, measure
from models.hub import BundlePlace

SCAN_BATCHES: Final = (1, 4, 16)
"""With a worker for each core. One worker with all cores is only scanned at 16: in the six comparisons of
docs/log.md that name a best, two workers were always the best. All six ran a real bundle."""
SCAN_CONNECTIONS: Final = 16
USUAL_BATCH: Final = 16
REFERENCE: Final = Configuration("ours")


@dataclass(frozen=True, slots=True)
class Durations:
    """The seconds of one measurement."""

    warmup: float
    counted: float


@dataclass(slots=True)
class PeerBench:
    """The work of a comparison and its measurements so far.

    Attributes:
        classifier: folder of the plain classifier, for the peers that run no bundle.
    """

    bundle: BundlePlace
    classifier: Path
    rows: Sequence[Row]
    measurements: dict[Configuration, list[Measurement]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[Configuration, list[str]] = field(default_factory=lambda: defaultdict(list))

    def run(
        self, configuration: Configuration, levels: Sequence[int], durations: Durations, first: int = 0
    ) -> list[Measurement]:
        """Start a server, load it at each number of connections, stop it. A failed start is recorded.

        Args:
            first: the row that is sent first. A slow server sees few rows in a measurement: with the same
                first row in every round, the lengths of these few would decide.
        """
        peer, done = PEERS[configuration.peer], list[Measurement]()
        try:
            place = self.classifier if peer.classifies else self.bundle
            with running(configuration, place, self.rows[0]) as port:
                rows = [*self.rows[first:], *self.rows[:first]]
                requests = make_requests(port, map(peer.document, rows), peer.route)
                for level in levels:
                    one = measure(port, requests, level, durations.warmup, durations.counted)
                    labels = {(row + first) % len(rows): label for row, label in one.labels.items()}
                    done.append(replace(one, labels=labels))
        except StartFailed as failure:
            print(f"{peer.title}, {configuration}: {failure}", file=sys.stderr)
            self.failures[configuration].append(str(failure))
        rates = "  ".join(f"{one.connections}: {one.rps:.1f} {one.errors or ''}" for one in done)
        print(f"  {peer.title}, {configuration}: requests/s at {rates}", file=sys.stderr)
        return done

    def scan(self, peer: str, cores: int, durations: Durations) -> dict[Configuration, float]:
        """Requests a second of a peer with different batch sizes and splits of the cores."""
        return {
            configuration: measurement.rps
            for configuration in candidates(peer, cores)
            for measurement in self.run(configuration, [SCAN_CONNECTIONS], durations)
        }

    def standing(self, kind: Kind, configuration: Configuration) -> Standing:
        """A server's figures, and its agreement with ours."""
        labels, relabelled = merge_labels(self.measurements[configuration])
        reference, _ = merge_labels(self.measurements[REFERENCE])
        return Standing(
            kind=kind,
            peer=configuration.peer,
            title=PEERS[configuration.peer].title,
            configuration=str(configuration),
            figures=summarise(self.measurements[configuration]),
            agreement=None if PEERS[configuration.peer].classifies else agreement(labels, reference),
            relabelled=relabelled,
            failures=self.failures[configuration],
        )


def splits(cores: int, peer: Peer) -> list[tuple[int, int]]:
    """Workers and threads of each: one worker with all cores, and one for each core."""
    return list(dict.fromkeys([(1, cores)] if peer.classifies else [(1, cores), (cores, 1)]))


def candidates(peer: str, cores: int) -> list[Configuration]:
    """What a scan tries. The last split is the one with most workers."""
    *_, split = splits(cores, PEERS[peer])
    tried = [Configuration(peer, batch, *split) for batch in SCAN_BATCHES]
    return list(dict.fromkeys([Configuration(peer, USUAL_BATCH, 1, cores), *tried]))


def places(
    peers: Sequence[str], cores: int, scans: dict[str, dict[Configuration, float]], overhead: bool = False
) -> list[tuple[Kind, Configuration]]:
    """The servers to compare. A peer whose best configuration is its usual one has two places and runs
    once.

    Args:
        overhead: the models cost nothing; a peer in Rust then also runs with two workers, as many as the
            fronts that ours has.
    """
    found: list[tuple[Kind, Configuration]] = []
    kind: Kind
    for peer in peers:
        if peer in OURS:
            found.append((peer, Configuration(peer)))
        elif not PEERS[peer].batches:
            kind = "plain" if peer == "plain" else "bounded"
            found += [(kind, Configuration(peer, 1, *split)) for split in splits(cores, PEERS[peer])]
        else:
            kind = "classifier" if PEERS[peer].classifies else "batch 16"
            found.append((kind, Configuration(peer, USUAL_BATCH, 1, cores)))
            if overhead and peer in RUST:
                found.append(("pair", Configuration(peer, USUAL_BATCH, 2, 1)))
            if rates := scans.get(peer):
                kind = "classifier" if PEERS[peer].classifies else "best"
                found.append((kind, max(rates, key=lambda configuration: rates[configuration])))
    return list(dict.fromkeys(found))
