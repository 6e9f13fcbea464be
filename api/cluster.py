"""The server on a Ray cluster, as replicas behind Ray Serve:

    serve run api.cluster:build bundle=/models/mine replicas=3 cpus=16

Each replica is the whole server (batching, admission, deadlines), whose engine has the cores or GPUs that Ray
gave it; one a machine is best. Ray Serve deals out the requests, starts anew what dies, and rolls out a new
bundle (`serve deploy`). Settings are the `KORE_*` of the deploying shell.
Ray Serve itself listens and drains. All machines must see this project under the same path, and the
bundle too, unless it is on the Hugging Face hub.
"""

import os
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import get_runtime_context, serve

from api import logs
from api.app import create_app
from api.service import RelationService
from api.settings import Settings
from api.tracing import from_environment
from models.bundle import Bundle
from models.hub import BundlePlace, pinned

ROOT: Final = Path(__file__).resolve().parents[1]


class Deployment(BaseModel):
    """The arguments of `serve run api.cluster:build`."""

    model_config = ConfigDict(extra="forbid")

    bundle: BundlePlace | None = Field(
        None, description="folder of the ensemble, or hf://owner/name@revision; default: KORE_BUNDLE"
    )
    replicas: int = Field(1, ge=1)
    most_replicas: int | None = Field(
        None, ge=1, description="Ray Serve starts up to this many while requests wait; default: replicas"
    )
    upscale_delay_s: float = Field(30, ge=0, description="how long requests wait before a replica is added")
    downscale_delay_s: float = Field(600, ge=0, description="how long a replica is spare before it leaves")
    cpus: int = Field(1, ge=1, description="cores of a replica")
    gpus: int = Field(0, ge=0, description="GPUs of a replica")


@serve.ingress()
class Relations:
    """A replica: ready once its bundle is loaded, measured and proven on the cores that Ray gave it.

    Raises:
        RuntimeError: the bundle must not be served; the message says why.
    """

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        logs.configure(settings.log_format)
        context: Any = get_runtime_context()
        cores = int(context.get_assigned_resources()["CPU"])  # others have the rest of the machine
        refusals: list[str] = []
        self._service = RelationService(settings, refusals.append, cores)
        await self._service.load()
        if refusals:
            raise RuntimeError(refusals[0])

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._service, from_environment())


def build(arguments: Deployment) -> serve.Application:
    """What `serve run` and `serve deploy` start.

    Raises:
        BundleRefused: there is no bundle that can be served.
    """
    settings = Settings()
    place = arguments.bundle or settings.bundle
    bundle = Bundle.open(place)  # refused here rather than on every replica, again and again
    settings = settings.model_copy(update={"bundle": pinned(place, bundle.path)})
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    options: dict[str, Any] = {
        # What a replica's queue and body limits refuse, they refuse themselves, with a Retry-After that
        # holds.
        "max_ongoing_requests": 2 * settings.max_queue,
        "graceful_shutdown_timeout_s": settings.drain_grace_s,
        "ray_actor_options": {
            "num_cpus": arguments.cpus,
            "num_gpus": arguments.gpus,
            "runtime_env": {"env_vars": {"PYTHONPATH": path}},
        },
    }
    if arguments.most_replicas is None:
        options["num_replicas"] = arguments.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": arguments.replicas,
            "max_replicas": arguments.most_replicas,
            "target_ongoing_requests": 16 * max(arguments.cpus, 16 * arguments.gpus),
            "upscale_delay_s": arguments.upscale_delay_s,
            "downscale_delay_s": arguments.downscale_delay_s,
        }
    deployment: Any = serve.deployment(Relations)
    application: serve.Application = deployment.options(name="relations", **options).bind(settings)
    return application
