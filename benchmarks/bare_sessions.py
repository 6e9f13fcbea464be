"""Bare ONNX Runtime sessions with tokenised rows, on every split of the cores: no HTTP, no queue, no
waiting."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, Literal

from engine.cores import available_cores
from engine.cost import CostModel
from engine.lanes import Lanes
from engine.planner import BatchPlanner
from engine.split import Split, possible_splits
from loadtest.sentences import Row
from models.bundle import Bundle
from models.ensemble import EncodedExample, Ensemble
from models.example import Example
from models.hub import BundlePlace

SIZES: Final = (1, 2, 4, 8, 16)
EVERY_MEMBER: Final = 1.0
"""`KORE_CASCADE_CAUTION` at which no row stops early: these comparisons leave the cascade out."""
USUAL_SIZE: Final = 16
"""The batch of a server with fixed batches, in arrival order on one lane of all cores."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to batch rows. `by cost` cuts them as the tuned lanes do."""

    split: Split
    order: Literal["arrival", "sorted", "by cost"]
    size: int = 0

    def __str__(self) -> str:
        batches = f"{self.order}, batches of {self.size}" if self.size else self.order
        return f"{self.split.lanes} × {self.split.threads}, {batches}"


class SessionBench:
    """The rows, and the ensemble on every split.

    Args:
        tuning: the server's choice, as `GET /info` shows it.
    """

    def __init__(self, bundle: BundlePlace, rows: Sequence[Row], tuning: dict[str, Any]) -> None:
        opened = Bundle.open(bundle)
        splits = possible_splits("cpu", available_cores())
        self._planner = read_planner(tuning)
        self._ensembles = {split: Lanes.load(opened, "cpu", split, EVERY_MEMBER).ensemble for split in splits}
        self._rows = [self._ensembles[splits[0]].encode(Example.from_row(row)) for row in rows]
        orders: tuple[Literal["arrival", "sorted"], ...] = ("arrival", "sorted")
        self.fixed = [Way(split, order, size) for split in splits for order in orders for size in SIZES]
        self.usual = Way(Split(1, available_cores()), "arrival", USUAL_SIZE)
        self.ours = Way(Split(tuning["lanes"], tuning["threads_per_lane"]), "by cost")

    def rows_per_s(self, way: Way) -> float:
        """Run all rows once."""
        return rows_per_s(self._ensembles[way.split], self._batches(way), way.split.lanes)

    def _batches(self, way: Way) -> list[list[EncodedExample]]:
        rows = self._rows if way.order == "arrival" else sorted(self._rows, key=len)
        if way.order == "by cost":
            cuts = self._planner.cut([len(row) for row in rows])
        else:
            cuts = [range(start, min(start + way.size, len(rows))) for start in range(0, len(rows), way.size)]
        batches = [rows[cut.start : cut.stop] for cut in cuts]
        if way.order != "arrival":
            random.Random(0).shuffle(batches)  # so that long batches do not all run at the same time
        return batches


def rows_per_s(
    ensemble: Ensemble, batches: Sequence[Sequence[EncodedExample]], lanes: int, every_member: bool = False
) -> float:
    """Of one pass over the batches on all lanes."""
    with ThreadPoolExecutor(lanes) as threads:
        began = time.perf_counter()
        list(threads.map(partial(ensemble.run, every_member=every_member), batches, count()))
        return sum(map(len, batches)) / (time.perf_counter() - began)


def read_planner(tuning: dict[str, Any]) -> BatchPlanner:
    """The server's batch planner, from what `GET /info` shows."""
    prices = {**tuning["cost_seconds"]}
    above = tuple((int(size), float(price)) for size, price in prices.pop("above"))
    return BatchPlanner(CostModel(**prices, above=above), tuning["token_budget"])
