"""What the manifests and the server must agree on: each rule reads both."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml
from pydantic import ValidationError

from api.app import create_app
from api.connection import CLOSING_S
from api.metrics import REGISTRY
from api.service import LAST_BATCH_S, RelationService
from api.settings import PREFIX, Settings
from deploy.kubernetes.render import Object, pod_templates

PROBES: Final = {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
"""A liveness probe on /ready would restart a server that drains."""


def contract_faults(manifests: list[Object]) -> Iterator[str]:
    """How the manifests of one folder disagree with the server or with each other."""
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        for rule in RULES.get(manifest["kind"], ()):
            try:
                yield from (f"{name}: {fault}" for fault in rule(manifest, manifests))
            except KeyError as error:
                yield f"{name}: {error} is missing"
            except ValueError as error:
                yield f"{name}: {error}"


def _settings(container: Object) -> Settings:
    """The settings that a container's variables give; secrets have no value here.

    Raises:
        ValueError: a variable is not a setting, or has a value that the server refuses.
    """
    given: dict[str, Any] = {}
    for variable in container.get("env", []):
        name = variable["name"].removeprefix(PREFIX).lower()
        if name not in Settings.model_fields and variable["name"].startswith(PREFIX):
            raise ValueError(f"{variable['name']} is not a setting of the server")
        if variable["name"].startswith(PREFIX) and "value" in variable:
            given[name] = variable["value"]
    try:
        return Settings(**given)
    except ValidationError as error:
        (name, *_), message = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ValueError(f"{PREFIX}{str(name).upper()}: {message}") from None


def _pod(spec: Object, settings: Settings) -> Iterator[str]:
    """What holds for every pod with the server in it."""
    needed = settings.drain_delay_s + settings.drain_grace_s + CLOSING_S + LAST_BATCH_S
    if (grace := spec.get("terminationGracePeriodSeconds", 30)) < needed:
        yield f"terminationGracePeriodSeconds is {grace}; draining takes up to {needed:g} s"
    if spec.get("enableServiceLinks", True):
        yield "enableServiceLinks must be false: Kubernetes would set KORE_* variables"


def _deployment(manifest: Object, _: list[Object]) -> Iterator[str]:
    spec = manifest["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    settings = _settings(container)
    yield from _pod(spec, settings)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if ports != {"http": settings.port}:
        yield f"ports are {ports}; the server listens on {settings.port}"
    for probe, path in PROBES.items():
        asked = container[probe]["httpGet"]
        if (asked["path"], asked["port"]) != (path, "http"):
            yield f"{probe} is {asked['path']} on {asked['port']}, not {path} on http"
    if container["resources"]["requests"] != container["resources"]["limits"]:
        yield "requests and limits differ: the server counts the cores of its limit"


def _service(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    for port in manifest["spec"]["ports"]:
        if port["targetPort"] not in _container_ports(manifests):
            yield f"targetPort {port['targetPort']} is no port of the pods"
    yield from _selects(manifest["spec"]["selector"], _pods(manifests))


def _selector(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    spec = manifest["spec"]
    yield from _selects((spec.get("podSelector") or spec["selector"])["matchLabels"], _pods(manifests))


def _selects(labels: Object, among: list[Object]) -> Iterator[str]:
    if not labels or not any(labels.items() <= each["metadata"]["labels"].items() for each in among):
        yield f"its selector {labels} selects nothing"


def _network(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    for rule in manifest["spec"]["ingress"]:
        for port in rule.get("ports", []):
            if port["port"] not in _container_ports(manifests):
                yield f"port {port['port']} is no port of the pods"


def _monitor(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    services = [each for each in manifests if each["kind"] == "Service"]
    yield from _selects(manifest["spec"]["selector"]["matchLabels"], services)
    for endpoint in manifest["spec"]["endpoints"]:
        if endpoint["path"] not in _routes():
            yield f"{endpoint['path']} is no route of the server"
        if endpoint["port"] not in _service_ports(manifests):
            yield f"port {endpoint['port']} is no port of the Service"


def _autoscaler(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    metrics = {metric.name for metric in REGISTRY.collect()}
    for metric in manifest["spec"]["metrics"]:
        if (name := metric["pods"]["metric"]["name"]) not in metrics:
            yield f"{name} is no metric of the server"
    target = manifest["spec"]["scaleTargetRef"]
    if not any(
        (target["kind"], target["name"]) == (each["kind"], each["metadata"]["name"]) for each in manifests
    ):
        yield f"{target['kind']} {target['name']} does not exist"


def _ingress(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    settings = _settings(deployment["spec"]["template"]["spec"]["containers"][0])
    annotations = {
        name.rpartition("/")[2]: value for name, value in manifest["metadata"]["annotations"].items()
    }
    if int(annotations["proxy-body-size"].removesuffix("m")) * 2**20 < settings.max_body_bytes:
        yield f"proxy-body-size is below the server's limit of {settings.max_body_bytes} bytes"
    if float(annotations["proxy-read-timeout"]) <= settings.request_timeout_s:
        yield f"proxy-read-timeout is not above the server's deadline of {settings.request_timeout_s:g} s"
    for rule in manifest["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            if (name := path["backend"]["service"]["port"]["name"]) not in _service_ports(manifests):
                yield f"port {name} is no port of the Service"


def _ray_service(manifest: Object, manifests: list[Object]) -> Iterator[str]:
    from ray.serve.schema import ServeDeploySchema

    from api.cluster import Deployment

    spec = manifest["spec"]
    try:
        served = ServeDeploySchema(**yaml.safe_load(spec["serveConfigV2"]))
        (application,) = served.applications
        arguments = Deployment(**application.args)
    except ValidationError as error:
        yield f"serveConfigV2: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        return
    if application.import_path != "api.cluster:build":
        yield f"import_path {application.import_path} is not api.cluster:build"
    for template in _pods(manifests):
        (container,) = template["spec"]["containers"]
        yield from _pod(template["spec"], _settings(container))
    if _container_ports(manifests)["serve"] != served.http_options.port:
        yield f"the port serve is not {served.http_options.port}, where Ray Serve listens"
    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    cores = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    if arguments.replicas > workers["replicas"] * (cores // arguments.cpus):
        room = f"{workers['replicas']} workers of {cores}"
        yield f"{arguments.replicas} replicas of {arguments.cpus} cores do not fit into {room}"


def _pods(manifests: list[Object]) -> list[Object]:
    return [template for manifest in manifests for template in pod_templates(manifest)]


def _container_ports(manifests: list[Object]) -> dict[str, int]:
    containers = [container for template in _pods(manifests) for container in template["spec"]["containers"]]
    return {port["name"]: port["containerPort"] for container in containers for port in container["ports"]}


def _service_ports(manifests: list[Object]) -> set[str]:
    return {port["name"] for each in manifests if each["kind"] == "Service" for port in each["spec"]["ports"]}


def _routes() -> set[str]:
    app = create_app(RelationService(Settings(), lambda reason: None))
    return {getattr(route, "path", "") for route in app.routes}


Rule = Callable[[Object, list[Object]], Iterator[str]]

RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "Deployment": (_deployment,),
    "Service": (_service,),
    "PodDisruptionBudget": (_selector,),
    "NetworkPolicy": (_selector, _network),
    "ServiceMonitor": (_monitor,),
    "HorizontalPodAutoscaler": (_autoscaler,),
    "Ingress": (_ingress,),
    "RayService": (_ray_service,),
}
