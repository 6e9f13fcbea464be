"""The bundle at work behind the routes: loaded in the background, ready when proven, then asked."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from api.batching import Answered, DynamicBatcher
from api.errors import NotReady
from api.schemas import Question, read_question
from api.settings import Settings
from models.bundle import Bundle, BundleRefused, Device
from models.ensemble import DeviceUnavailable, Ensemble
from models.lanes import available_cores

log = logging.getLogger("kore")

State = Literal["loading", "ready", "draining", "refused"]


class RelationService:
    """One ensemble, one batcher, and the state that `/ready` tells.

    Args:
        on_refusal: called with one plain line when the bundle must not be served.
    """

    def __init__(self, settings: Settings, on_refusal: Callable[[str], None]) -> None:
        self.settings = settings
        self.state: State = "loading"
        self.ensemble: Ensemble | None = None
        self._batcher: DynamicBatcher | None = None
        self._on_refusal = on_refusal
        # Parsing and tokenising 256 examples takes tens of milliseconds: never on the event loop.
        self._encoding = ThreadPoolExecutor(available_cores(), thread_name_prefix="encode")

    async def load(self) -> None:
        """Load, warm and prove the bundle; `ready` only after that."""
        try:
            ensemble = await asyncio.to_thread(self._load)
        except (BundleRefused, DeviceUnavailable) as error:
            self.state = "refused"
            self._on_refusal(str(error))
            return
        except Exception as error:
            log.exception("the bundle could not be loaded")
            self.state = "refused"
            self._on_refusal(f"bundle {self.settings.bundle}: {error}")
            return
        settings = self.settings
        self.ensemble = ensemble
        self._batcher = DynamicBatcher(ensemble.run, ensemble.lanes, settings.max_queue, settings.max_wait_ms / 1000)
        self.state = "ready"
        log.info("ready: %s on %s, %d lanes", ensemble.bundle.manifest.name, ", ".join(ensemble.providers), ensemble.lanes)

    async def read(self, body: bytes) -> Question:
        """Parse, check and encode a request's body, off the event loop.

        Raises:
            NotReady: the bundle is not proven yet, or the server is on its way out.
            InvalidRequest, TooLarge: as `read_question`.
        """
        if self.state != "ready" or self.ensemble is None:
            raise NotReady(f"the server is {self.state}", retry_after_s=1)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._encoding, read_question, body, self.settings.example_limit, self.ensemble.encode)

    async def predict(self, question: Question, deadline: float) -> Answered:
        """The ensemble's predictions, in the order asked. Raises as `DynamicBatcher.submit`."""
        assert self._batcher is not None  # a Question exists only once the service is ready
        return await self._batcher.submit(question.rows, deadline)

    async def close(self) -> None:
        """Finish what waits, then let go of the threads."""
        self.state = "draining"
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)
        self._encoding.shutdown(cancel_futures=True)

    def _load(self) -> Ensemble:
        bundle = Bundle.open(self.settings.bundle)
        ensemble = Ensemble.load(bundle, self._choose_device(bundle), self.settings.lanes)
        ensemble.prove()
        return ensemble

    def _choose_device(self, bundle: Bundle) -> Device:
        asked = self.settings.device
        if asked != "auto":
            return asked
        if "cuda" not in bundle.devices():
            log.info("device auto: cpu, because bundle %s has no graphs for a GPU", bundle.manifest.name)
            return "cpu"
        try:
            Ensemble.load(bundle, "cuda", lanes=1)
        except DeviceUnavailable as error:
            log.info("device auto: cpu, because %s", error)
            return "cpu"
        return "cuda"
