"""The batches that a simulated device gets over HTTP (`simulated_server.py`), next to the best ones."""

from itertools import repeat
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.simulated import SIZES, bert_large, tuned
from benchmarks.gpu.simulated_server import ROWS, SECONDS
from benchmarks.rows import draw_rows
from benchmarks.simulation import in_batches_of, simulate
from loadtest.server import ServerProcess, running
from loadtest.traffic import make_requests, measure
from models.bundle import Bundle
from models.bundle_encoder import BundleEncoder
from models.example import Example

CONNECTIONS: Final = 8
EXAMPLES: Final = 64
"""In each request: a GPU pays if callers send many examples (docs/scale.md)."""
REQUESTS: Final = 32
WARMUP_S: Final = 3.0
MEASURED_S: Final = 10.0


def measure_fronts(bundle: Path, fronts: int) -> dict[str, Any]:
    """Rows per second of the device in the server's batches, and their ratio to the best.

    The best: as many rows in flight, of the same lengths, in batches of one fixed size that hold the rows of
    the nearest lengths; the size is chosen by trying each of `SIZES`.
    """
    rows = draw_rows(None, REQUESTS * EXAMPLES)
    documents = [{"examples": rows[start : start + EXAMPLES]} for start in range(0, len(rows), EXAMPLES)]
    settings = {"device": "cuda", "http_processes": fronts, "max_queue": 10_000, "tuning_s": 0}
    with running(bundle, "benchmarks.gpu.simulated_server", **settings) as server:
        information = server.client.get("/info").json()
        requests = make_requests(server.port, documents)
        measure(server.port, requests, CONNECTIONS, 0.0, WARMUP_S)
        before = _counted(server)
        measured = measure(server.port, requests, CONNECTIONS, 0.0, MEASURED_S)
        served, seconds = (after - first for after, first in zip(_counted(server), before, strict=True))
    encoder = BundleEncoder(Bundle.open(bundle))
    lengths = [len(row) for each in rows for row in encoder.encode_all(Example.from_row(each))]
    best, size = _best(lengths, CONNECTIONS * EXAMPLES)
    return {
        "device": information["device"],
        "lanes": information["lanes"],
        "rows": round(served),
        "requests_per_s": round(measured.rps, 1),
        "rows_per_device_s": served / max(seconds, 1e-9),
        "best": best,
        "size": size,
        "ratio": served / max(seconds, 1e-9) / best,
        "errors": measured.errors,
    }


def _best(lengths: list[int], in_flight: int) -> tuple[float, int]:
    """Rows per second of the best fixed size, and the size."""
    budget = tuned(bert_large).token_budget
    tried = {
        size: simulate(
            1, bert_large, in_batches_of(size, budget), lengths, in_flight, 4 * len(lengths), repeat(0.0)
        ).rows_per_s
        for size in SIZES
    }
    size = max(tried, key=lambda each: tried[each])
    return tried[size], size


def _counted(server: ServerProcess) -> tuple[float, float]:
    """Rows and seconds of the device until now."""
    lines = server.client.get("/metrics").text.splitlines()
    values = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("kore_simulated")}
    return values.get(f"{ROWS}_total", 0.0), values.get(f"{SECONDS}_total", 0.0)
