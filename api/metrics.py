"""What Prometheus sees, in the words of `Server-Timing`: encode, queue, inference. The dashboard in
deploy/grafana uses these names.

With front processes, every process writes its counters to files in one folder (prometheus_client's
multiprocess mode), so that each process can answer with the sums, and none is lost when a process dies.
"""

import os
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # memory, CPU seconds, open files of this process
MEASURED_PATH: Final = "/relations"
SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's variable for the folder of multiprocess mode; it reads it when it is imported."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
_SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)


def _gauge(name: str, meaning: str) -> Gauge:
    # Only the engine's process sets a gauge. In the fronts it stays 0, so the sum is the engine's value.
    return Gauge(name, meaning, registry=REGISTRY, multiprocess_mode="livesum")


REQUESTS: Final = Counter(
    "kore_requests", "Requests to /relations by HTTP status", ["status"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "kore_request_seconds", "Whole time of a request to /relations", buckets=_SECONDS, registry=REGISTRY
)
ENCODE_SECONDS: Final = Histogram(
    "kore_encode_seconds", "Parsing, checking and tokenising a request", buckets=_SECONDS, registry=REGISTRY
)
QUEUE_SECONDS: Final = Histogram(
    "kore_queue_seconds", "Waiting for a request's first batch", buckets=_SECONDS, registry=REGISTRY
)
INFERENCE_SECONDS: Final = Histogram(
    "kore_inference_seconds",
    "From a request's first batch to its last answer",
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCH_ROWS: Final = Histogram("kore_batch_rows", "Examples in a batch", buckets=_ROWS, registry=REGISTRY)
BATCH_TOKENS: Final = Histogram(
    "kore_batch_tokens", "Tokens in a batch, padding included", buckets=_TOKENS, registry=REGISTRY
)
BATCH_PADDING_SHARE: Final = Histogram(
    "kore_batch_padding_share", "Share of a batch that is padding", buckets=_SHARES, registry=REGISTRY
)
QUEUE_EXAMPLES: Final = _gauge("kore_queue_examples", "Examples waiting for a lane")
QUEUE_LIMIT: Final = _gauge("kore_queue_limit", "Examples that can wait (KORE_MAX_QUEUE)")
ESTIMATED_WAIT: Final = _gauge("kore_estimated_wait_seconds", "Estimated wait of a request that arrives now")
REJECTIONS: Final = Counter(
    "kore_rejections", "Requests not answered with a prediction, by reason", ["reason"], registry=REGISTRY
)
ANSWERS: Final = Counter(
    "kore_answers", "Examples answered, by how many members voted", ["members"], registry=REGISTRY
)
PREDICTIONS: Final = Counter(
    "kore_predictions", "Examples answered, by predicted relation", ["relation"], registry=REGISTRY
)
TRUNCATED: Final = Counter(
    "kore_truncated", "Examples whose sentence was cut to the model's window", registry=REGISTRY
)
BUNDLE_SWAPS: Final = Counter(
    "kore_bundle_swaps", "Bundles swapped in at run time, or refused", ["outcome"], registry=REGISTRY
)
READY: Final = _gauge("kore_ready", "1 while /ready answers 200")

responded = cache(REQUESTS.labels)
rejected = cache(REJECTIONS.labels)
voted = cache(ANSWERS.labels)
predicted = cache(PREDICTIONS.labels)
"""A counter by its label, found at once the second time."""


def exposition() -> bytes:
    """The metrics in Prometheus' text form; with front processes, the sums over all processes."""
    folder = os.environ.get(SHARED_FOLDER)
    if folder is None:
        return generate_latest(REGISTRY)
    sums = CollectorRegistry()
    MultiProcessCollector(sums, folder)  # type: ignore[no-untyped-call]
    sums.register(_ProcessSums(Path(folder)))
    return generate_latest(sums)


class _ProcessSums(Collector):
    """`ProcessCollector`'s metrics summed over the processes that wrote into a folder and still run; the
    start is that of the oldest process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        sums: dict[str, Metric] = {}
        for pid in {file.stem.rpartition("_")[2] for file in self._folder.glob("*.db")}:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                if metric.name not in sums:
                    sums[metric.name] = metric
                    continue
                (ours,), (its,) = sums[metric.name].samples, metric.samples
                both = min if metric.name == "process_start_time_seconds" else sum
                sums[metric.name].samples = [ours._replace(value=both([ours.value, its.value]))]
        return sums.values()
