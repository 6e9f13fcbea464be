"""What the routes need of a service.

`RelationService` (api/service.py) has it in the engine's own process, `RemoteService` (api/fronts/remote.py)
in a front process. The routes do not know which one they call.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, Literal, Protocol, Self

from api.reading import BodyReader
from api.settings import Settings
from engine.waiting import Answered
from models.encoding import EncodedExample
from models.example import Example
from models.pairs import Pairs

State = Literal["loading", "ready", "draining", "stopping", "refused"]
"""draining: `/ready` answers 503, requests are still taken. stopping: new requests get 503, the others are
finished. refused: the first bundle must not be served."""


class AnsweringPool(Protocol):
    """The lanes of one bundle. A request holds it from reading to answer: `with pool:`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def encode(self, asked: Example | Pairs) -> list[EncodedExample]:
        """Mark and tokenise an example, or each pair. Raises InvalidExample."""

    async def require_room(self, deadline: float) -> None:
        """Refuse a request before its body is read. Raises QueueFull, WaitTooLong, NotReady."""

    def predict(self, rows: Sequence[EncodedExample], deadline: float) -> Awaitable[Answered]:
        """Predictions in the order of the rows. Raises a `Failure`."""


class Service(Protocol):
    """A service that the application is built around.

    Attributes:
        reader: reads the bodies of requests.
    """

    settings: Settings
    reader: BodyReader

    @property
    def state(self) -> State: ...

    def pool(self) -> AnsweringPool:
        """The pool that answers now. Raises NotReady."""

    async def load(self) -> None:
        """Get ready; called once, as the application starts."""

    async def describe(self) -> dict[str, Any]:
        """What is served and where, for `/info`."""

    async def metrics(self) -> bytes:
        """The metrics in Prometheus' text form."""

    async def close(self) -> None:
        """Called as the application ends."""
