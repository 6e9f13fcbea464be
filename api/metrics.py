"""What Prometheus sees, in the words of `Server-Timing`: encode, queue, inference. The dashboard in
deploy/grafana uses these names."""

from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # memory, CPU seconds, open files of this process
MEASURED_PATH: Final = "/relations"

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
_SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)

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
QUEUE_EXAMPLES: Final = Gauge("kore_queue_examples", "Examples waiting for a lane", registry=REGISTRY)
QUEUE_LIMIT: Final = Gauge("kore_queue_limit", "Examples that can wait (KORE_MAX_QUEUE)", registry=REGISTRY)
ESTIMATED_WAIT: Final = Gauge(
    "kore_estimated_wait_seconds", "Estimated wait of a request that arrives now", registry=REGISTRY
)
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
READY: Final = Gauge("kore_ready", "1 while /ready answers 200", registry=REGISTRY)

responded = cache(REQUESTS.labels)
rejected = cache(REJECTIONS.labels)
voted = cache(ANSWERS.labels)
predicted = cache(PREDICTIONS.labels)
"""A counter by its label, found at once the second time."""
