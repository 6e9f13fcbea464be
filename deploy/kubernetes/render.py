"""A kustomize folder as the objects that it makes."""

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]


class RenderFailed(ValueError):
    """kubectl could not render a folder; the message is its own."""


def render(folder: Path) -> list[Object]:
    """The objects of a kustomize folder.

    Raises:
        RenderFailed: the folder cannot be rendered.
    """
    import yaml

    kubectl = Path(sysconfig.get_path("scripts")) / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", folder], check=False, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode != 0:
        raise RenderFailed(f"{folder.name}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def pod_templates(manifest: Object) -> Iterator[Object]:
    """The pods that an object starts."""
    if manifest["kind"] == "Deployment":
        yield manifest["spec"]["template"]
    elif manifest["kind"] == "RayService":
        cluster = manifest["spec"]["rayClusterConfig"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            yield group["template"]
