"""OpenTelemetry traces, when OpenTelemetry's own environment variables name a collector; nothing is imported
otherwise.

One span a request, a child of the caller's, with the stages of `Server-Timing` as its children. Exporter,
sampler and batching are set by the usual `OTEL_*` variables, which the SDK reads itself.
"""

import os
import time
from collections.abc import Mapping
from typing import Any, Final

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class TracingUnavailable(RuntimeError):
    """Traces were asked for, but the `otel` extra is not installed."""


class Tracing:
    """Writes a request's spans after its answer has gone, so that no request waits for them."""

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingUnavailable(
                f"{_endpoint()} asks for traces: install the otel extra, pip install '.[otel]' ({error})"
            ) from None
        service = os.environ.get("OTEL_SERVICE_NAME", "kore-serve")
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("kore")
        self._extract = propagate.extract
        self._trace = trace

    def record(
        self,
        name: str,
        headers: Mapping[str, str],
        began: float,
        stages: Mapping[str, float],
        attributes: Mapping[str, Any],
        failed: bool,
    ) -> None:
        """Write the spans of a request that has been answered.

        Args:
            headers: the request's, in which the caller's `traceparent` may stand.
            began: on `time.monotonic`'s clock.
            stages: seconds, in the order in which they followed each other up to now.
        """
        now = time.time_ns()
        start = now - int((time.monotonic() - began) * 1e9)
        kind = self._trace.SpanKind.SERVER
        span = self._tracer.start_span(
            name, self._extract(headers), kind=kind, start_time=start, attributes=dict(attributes)
        )
        if failed:
            span.set_status(self._trace.StatusCode.ERROR)
        inside = self._trace.set_span_in_context(span)
        end = now
        for stage, seconds in reversed(list(stages.items())):
            child = self._tracer.start_span(stage, inside, start_time=end - int(seconds * 1e9))
            child.end(end)
            end -= int(seconds * 1e9)
        span.end(now)

    def close(self) -> None:
        """Send what has not been sent yet."""
        self._provider.shutdown()


def from_environment() -> Tracing | None:
    """Tracing where OpenTelemetry's variables ask for it.

    Raises:
        TracingUnavailable: they do, but the libraries are not installed.
    """
    if _endpoint() is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    return Tracing()


def _endpoint() -> str | None:
    return next((name for name in ENDPOINTS if os.environ.get(name)), None)
