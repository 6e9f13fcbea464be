"""The server's state: loading, ready, draining; and which pool of lanes answers."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from api.metrics import (
    BATCH_PADDING_SHARE,
    BATCH_ROWS,
    BATCH_TOKENS,
    BUNDLE_SWAPS,
    ESTIMATED_WAIT,
    QUEUE_EXAMPLES,
    QUEUE_LIMIT,
    READY,
    exposition,
)
from api.reading import BodyReader
from api.seam import State
from api.settings import Settings
from engine.cores import available_cores
from engine.devices import choose_device
from engine.errors import NotReady
from engine.pool import Pool
from engine.tuning import TunedEnsemble, load
from models.bundle import Bundle, BundleRefused, Quality
from models.ensemble import DeviceUnavailable, Ensemble
from models.memory import give_back

log = logging.getLogger("kore")

LAST_BATCH_S: Final = 5.0
"""How long closing waits for batches in the lanes, in seconds: their callers have left."""


@dataclass(frozen=True, slots=True)
class Swap:
    """The outcome of the last request to reload the bundle."""

    outcome: Literal["swapped", "refused"]
    reason: str


class RelationService:
    """Loads a bundle in the background, serves it once it is proven, swaps it, and drains without losing a
    request.

    Args:
        on_refusal: called with one plain line if the first bundle must not be served.
        cores: the most that the lanes can use; by default all that this process can use.

    Attributes:
        reader: reads the bodies of requests.
        last_swap: None before the first one.
        on_change: called after each change of `state` or `serving`.
        stuck: whether a batch was still running when the service was closed.
    """

    def __init__(
        self, settings: Settings, on_refusal: Callable[[str], None], cores: int | None = None
    ) -> None:
        self.settings = settings
        self.last_swap: Swap | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.stuck = False
        self._state: State = "loading"
        self._pool: Pool | None = None
        self._opening = True  # whether a bundle is being loaded, the first one or a new one
        self._swap_again = False  # asked for meanwhile: that load can have read the bundle before its change
        self._on_refusal = on_refusal
        self._cores = available_cores(cores)
        self.reader = BodyReader(settings.example_limit, self._cores)
        self._retiring: dict[Pool, asyncio.Task[None]] = {}

    @property
    def state(self) -> State:
        return self._state

    @property
    def serving(self) -> Pool | None:
        """The pool of the newest proven bundle; None while the first one loads."""
        return self._pool

    @property
    def busy(self) -> bool:
        """Whether requests are inside."""
        return any(pool.busy for pool in self._pools())

    def pool(self) -> Pool:
        """The pool that answers now.

        Raises:
            NotReady: the bundle is not proven yet, or the server no longer takes requests.
        """
        if self._pool is None or self._state == "stopping":
            raise NotReady(f"the server is {self._state}", retry_after_s=1)
        return self._pool

    async def load(self) -> None:
        """Load, warm and prove the first bundle, once. The state is `ready` only after that."""
        if self._pool is not None:
            return
        try:
            tuned = await asyncio.to_thread(self._load)
            self._pool = self._pool_of(tuned)
        except Exception as error:
            self._state = "refused"
            self._on_refusal(_reason(error))
            return
        QUEUE_LIMIT.set(self.settings.max_queue)
        self._become("ready" if self._state == "loading" else self._state)
        ensemble, split = tuned.lanes.ensemble, tuned.lanes.split
        name, providers = ensemble.bundle.manifest.name, ", ".join(ensemble.providers)
        log.info(
            "ready: %s on %s; lanes: %d, threads per lane: %d", name, providers, split.lanes, split.threads
        )
        await self._opened()
        await asyncio.to_thread(give_back)  # what measuring the splits has left

    async def swap(self) -> None:
        """Open the bundle's path again and serve what is there now. If the new bundle is refused, the old one
        goes on and `/info` tells the reason.

        1. While a bundle loads, only note the request: one swap then follows, for any number of requests.
        2. Load the new bundle in a thread.
        3. If that takes too long, refuse it. A thread cannot be stopped, so the next swap waits for its end.
        4. Let the new bundle's pool take the requests from now on, and retire the old pool.
        """
        if self._opening:
            self._swap_again = True
            return
        if self._state != "ready" or self._pool is None:
            log.warning("no bundle can be swapped in while the server is %s", self._state)
            return
        self._opening = True
        loading = asyncio.ensure_future(asyncio.to_thread(self._load, self._pool.tuned))
        await asyncio.wait([loading], timeout=self.settings.swap_limit_s)
        if loading.done():
            self._take_over(loading)
        else:
            self._refuse_swap(f"it did not load within {self.settings.swap_limit_s:g} s")
            await asyncio.wait([loading])
        await self._opened()

    def _take_over(self, loading: asyncio.Future[TunedEnsemble]) -> None:
        if (error := loading.exception()) is not None:
            self._refuse_swap(_reason(error))
        elif self._pool is None or self._state != "ready":  # it began to drain meanwhile
            self._refuse_swap(f"the server is {self._state}")
        else:
            tuned = loading.result()
            retired, self._pool = self._pool, self._pool_of(tuned)
            self._retiring[retired] = asyncio.create_task(self._retire(retired))
            name = tuned.lanes.ensemble.bundle.manifest.name
            log.info("swapped: %s serves now", name)
            self.last_swap = Swap("swapped", f"{name} serves since then")
            BUNDLE_SWAPS.labels("swapped").inc()
            self.on_change()

    def _refuse_swap(self, reason: str) -> None:
        log.error("the new bundle was refused, the old one goes on: %s", reason)
        self.last_swap = Swap("refused", reason)
        BUNDLE_SWAPS.labels("refused").inc()

    async def _opened(self) -> None:
        self._opening = False
        if self._swap_again:
            self._swap_again = False
            await self.swap()

    async def drain(self, delay_s: float, grace_s: float) -> None:
        """Leave without losing a request.

        1. `/ready` answers 503 at once; requests are taken for `delay_s` more.
        2. New requests get 503; those inside are finished, for at most `grace_s`.
        3. Requests that are still inside get 503.
        """
        self._become("draining")
        await asyncio.sleep(delay_s)
        self._become("stopping")
        try:
            if self.busy:  # with a grace of 0, `wait_for` would time out for no request, too
                await asyncio.wait_for(asyncio.gather(*(pool.idle() for pool in self._pools())), grace_s)
        except TimeoutError:
            waiting = sum(pool.waiting for pool in self._pools())
            log.error("after %g s of grace requests are still inside; %d examples wait", grace_s, waiting)
            for pool in self._pools():
                pool.give_up()

    async def close(self) -> None:
        """End the lanes, or leave a batch that does not end."""
        self._become("stopping")
        ended = [await pool.close(LAST_BATCH_S) for pool in self._pools()]
        await asyncio.to_thread(self.reader.close)
        self.stuck |= not all(ended)
        if self.stuck:
            log.error("a batch did not end within %g s; the process ends without it", LAST_BATCH_S)

    def measure(self) -> None:
        """Set the gauges that tell the present moment."""
        QUEUE_EXAMPLES.set(sum(pool.waiting for pool in self._pools()))
        ESTIMATED_WAIT.set(self._pool.estimated_wait_s if self._pool else 0.0)

    async def metrics(self) -> bytes:
        """The metrics in Prometheus' text form."""
        self.measure()
        return exposition()

    async def describe(self) -> dict[str, Any]:
        """As `description`, for callers that do not know where the engine is."""
        return self.description()

    def description(self) -> dict[str, Any]:
        """What is served and where, for `/info` and `/card`."""
        document: dict[str, Any] = {
            "state": self._state,
            "swapping": self._opening and self._pool is not None,
            "last_swap": asdict(self.last_swap) if self.last_swap else None,
        }
        if self._pool is None:
            return document
        tuned = self._pool.tuned
        ensemble = tuned.lanes.ensemble
        manifest = ensemble.bundle.manifest
        return document | {
            "bundle": manifest.name,
            "bundle_bytes": ensemble.bundle.size,
            "voting": manifest.voting,
            "cascade_thresholds": ensemble.thresholds,
            "max_length": manifest.max_length,
            "device": ensemble.device,
            "lanes": tuned.lanes.split.lanes,
            "tuning": _describe(tuned),
            "members": [
                {
                    "name": member.name,
                    "weight": member.weight,
                    "layers": member.layers,
                    "file": file.path,
                    "provider": provider,
                }
                for member, provider in zip(manifest.members, ensemble.providers, strict=True)
                if (file := member.file_for(ensemble.device))
            ],
            "quality": _quality(ensemble).model_dump(),
            "source": manifest.source.model_dump(),
            "card": ensemble.bundle.card,
        }

    def _pools(self) -> list[Pool]:
        return [*self._retiring, *([self._pool] if self._pool else [])]

    def _pool_of(self, tuned: TunedEnsemble) -> Pool:
        return Pool(tuned, self.settings.max_queue, self.settings.max_wait_ms / 1000, _measure_batch)

    async def _retire(self, pool: Pool) -> None:
        """Close a pool once its last request has been answered."""
        await pool.idle()
        self.stuck |= not await pool.close(LAST_BATCH_S)
        del self._retiring[pool], pool
        await asyncio.to_thread(give_back)

    def _become(self, state: State) -> None:
        self._state = state
        READY.set(state == "ready")
        self.on_change()

    def _load(self, serving: TunedEnsemble | None = None) -> TunedEnsemble:
        bundle = Bundle.open(self.settings.bundle)
        if (
            serving is not None
            and serving.lanes.ensemble.device == choose_device(bundle, self.settings.device)[0]
        ):
            return serving.succeed(bundle, self.settings.token_budget)
        return load(bundle, self.settings, self._cores)


def _measure_batch(lengths: Sequence[int]) -> None:
    padded = max(lengths) * len(lengths)
    BATCH_ROWS.observe(len(lengths))
    BATCH_TOKENS.observe(padded)
    BATCH_PADDING_SHARE.observe(1 - sum(lengths) / padded)


def _quality(ensemble: Ensemble) -> Quality:
    """What was measured for the ensemble as it is served: with its cascade, or every member voting."""
    manifest = ensemble.bundle.manifest
    cascade = manifest.cascade
    if cascade is not None and ensemble.thresholds == tuple(cascade.thresholds):
        return cascade.quality
    return manifest.quality[ensemble.device]


def _describe(tuned: TunedEnsemble) -> dict[str, Any]:
    """What was chosen for this machine, and why."""
    measured = tuned.measured
    return {
        "lanes": measured.split.lanes,
        "threads_per_lane": measured.split.threads,
        "token_budget": measured.token_budget,
        "all_cores_for_one": tuned.alone is not None,
        "cost_seconds": asdict(measured.cost),
        "cost_error": round(measured.cost.error(measured.timings), 4),
        "tried": [
            {
                "lanes": tried.split.lanes,
                "threads_per_lane": tried.split.threads,
                "rows_per_s": round(tried.rows_per_s, 1),
            }
            for tried in tuned.tried
        ],
        "measured_in_s": round(tuned.tuning_s, 2),
    }


def _reason(error: BaseException) -> str:
    if not isinstance(error, BundleRefused | DeviceUnavailable):
        log.error("the bundle could not be loaded", exc_info=error)
        return f"the bundle could not be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
    return str(error)
