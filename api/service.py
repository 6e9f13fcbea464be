"""The server's state behind the routes: loading, ready, draining; and which engine answers."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from api.engine import Engine
from api.metrics import BUNDLE_SWAPS, QUEUE_EXAMPLES, READY
from api.settings import Settings
from engine.cores import available_cores
from engine.devices import choose_device
from engine.errors import NotReady
from engine.tuning import TunedEnsemble, load
from models.bundle import Bundle, BundleRefused
from models.ensemble import DeviceUnavailable

log = logging.getLogger("kore")

State = Literal["loading", "ready", "draining", "stopping", "refused"]
"""draining: `/ready` says 503, requests are still taken; stopping: requests get 503, those inside are
finished."""


LAST_BATCH_S: Final = 5.0
"""How long closing waits for batches in the lanes: nobody waits for their answers any more."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What came of the last request to take over a new bundle."""

    outcome: Literal["swapped", "refused"]
    reason: str


class RelationService:
    """Loads a bundle in the background, serves it once it is proven, swaps it, and leaves without losing a
    request.

    Attributes:
        last_swap: what came of the last one; None before the first.
        stuck: whether a batch was still running when the service was closed.

    Args:
        on_refusal: called with one plain line when the first bundle must not be served.
        cores: most that the lanes may use; by default all that this process may.
    """

    def __init__(
        self, settings: Settings, on_refusal: Callable[[str], None], cores: int | None = None
    ) -> None:
        self.settings = settings
        self.last_swap: Swap | None = None
        self.stuck = False
        self._state: State = "loading"
        self._engine: Engine | None = None
        self._swap_again = False
        self._on_refusal = on_refusal
        self._cores = available_cores(cores)
        self._swapping = asyncio.Lock()
        self._retiring: dict[Engine, asyncio.Task[None]] = {}

    @property
    def state(self) -> State:
        return self._state

    @property
    def busy(self) -> bool:
        """Whether requests are inside."""
        return any(engine.busy for engine in self._engines())

    def engine(self) -> Engine:
        """The engine that answers now.

        Raises:
            NotReady: the bundle is not proven yet, or the server no longer takes requests.
        """
        if self._engine is None or self._state == "stopping":
            raise NotReady(f"the server is {self._state}", retry_after_s=1)
        return self._engine

    async def load(self) -> None:
        """Load, warm and prove the first bundle, once; `ready` only after that."""
        if self._engine is not None:
            return
        try:
            tuned = await asyncio.to_thread(self._load)
            self._engine = Engine(tuned, self.settings, self._cores)
        except Exception as error:
            self._state = "refused"
            self._on_refusal(_reason(error))
            return
        QUEUE_EXAMPLES.set_function(lambda: sum(engine.waiting for engine in self._engines()))
        self._become("ready" if self._state == "loading" else self._state)
        ensemble, split = tuned.lanes.ensemble, tuned.lanes.split
        name, providers = ensemble.bundle.manifest.name, ", ".join(ensemble.providers)
        log.info(
            "ready: %s on %s; lanes: %d, threads a lane: %d", name, providers, split.lanes, split.threads
        )
        if self._swap_again:
            await self.swap()

    async def swap(self) -> None:
        """Take over what lies at the bundle's path now; while the first bundle is loading, right after that.
        If it is refused, the old one goes on, and `/info` tells the reason."""
        async with self._swapping:
            if self._state == "loading":
                # what is being loaded may have been read before the change that this is about
                self._swap_again = True
                return
            if self._state != "ready" or self._engine is None:
                log.warning("no bundle can be swapped in while the server is %s", self._state)
                return
            try:
                tuned = await asyncio.to_thread(self._load, self._engine.tuned)
                if self._state != "ready":  # it began to leave meanwhile
                    raise BundleRefused(f"the server is {self._state}")
                engine = Engine(tuned, self.settings, self._cores)
            except Exception as error:
                self.last_swap = Swap("refused", _reason(error))
                log.error("the new bundle was refused, the old one goes on: %s", self.last_swap.reason)
            else:
                retired, self._engine = self._engine, engine
                self.last_swap = Swap(
                    "swapped", f"{tuned.lanes.ensemble.bundle.manifest.name} serves since then"
                )
                log.info("swapped: %s serves now", tuned.lanes.ensemble.bundle.manifest.name)
                self._retiring[retired] = asyncio.create_task(self._retire(retired))
            BUNDLE_SWAPS.labels(self.last_swap.outcome).inc()

    async def drain(self, delay_s: float, grace_s: float) -> None:
        """On the way out: `/ready` says 503 at once; after the delay no request is taken any more, and those
        inside are finished, for at most the grace period; who is inside then gets 503."""
        self._become("draining")
        await asyncio.sleep(delay_s)
        self._become("stopping")
        try:
            if self.busy:  # no grace at all would seem too short for nobody, too
                await asyncio.wait_for(
                    asyncio.gather(*(engine.idle() for engine in self._engines())), grace_s
                )
        except TimeoutError:
            waiting = sum(engine.waiting for engine in self._engines())
            log.error(
                "requests were still inside after %g s of grace, %d examples of theirs in the queue",
                grace_s,
                waiting,
            )
            for engine in self._engines():
                engine.give_up()

    async def close(self) -> None:
        """Let go of the engine, or of a batch that does not end."""
        self._become("stopping")
        ended = [await engine.close(LAST_BATCH_S) for engine in self._engines()]
        self.stuck |= not all(ended)
        if self.stuck:
            log.error("a batch did not end within %g s; it is left behind", LAST_BATCH_S)

    def describe(self) -> dict[str, Any]:
        """What is served and where, for `/info`."""
        document: dict[str, Any] = {
            "state": self._state,
            "last_swap": asdict(self.last_swap) if self.last_swap else None,
        }
        if self._engine is None:
            return document
        tuned = self._engine.tuned
        ensemble = tuned.lanes.ensemble
        manifest = ensemble.bundle.manifest
        return document | {
            "bundle": manifest.name,
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
            "quality": manifest.quality[ensemble.device].model_dump(),
            "source": manifest.source.model_dump(),
        }

    def _engines(self) -> list[Engine]:
        return [*self._retiring, *([self._engine] if self._engine else [])]

    async def _retire(self, engine: Engine) -> None:
        """Let an engine go once the last of its requests has been answered; nobody waits for that."""
        await engine.idle()
        self.stuck |= not await engine.close(LAST_BATCH_S)
        del self._retiring[engine]

    def _become(self, state: State) -> None:
        self._state = state
        READY.set(state == "ready")

    def _load(self, serving: TunedEnsemble | None = None) -> TunedEnsemble:
        bundle = Bundle.open(self.settings.bundle)
        if (
            serving is not None
            and serving.lanes.ensemble.device == choose_device(bundle, self.settings.device)[0]
        ):
            return serving.succeed(bundle, self.settings.token_budget)
        return load(bundle, self.settings, self._cores)


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


def _reason(error: Exception) -> str:
    if not isinstance(error, BundleRefused | DeviceUnavailable):
        log.error("the bundle could not be loaded", exc_info=error)
        return f"the bundle could not be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
    return str(error)
