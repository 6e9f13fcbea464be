"""Render the Kubernetes manifests and check them: against the schemas of Kubernetes, and against the server.

1. `kubectl kustomize` renders each folder.
2. Each object must keep to its schema, with no other field: those of Kubernetes (`kubernetes-validate`), and
   custom.yaml for the objects of KubeRay and of the Prometheus operator.
3. Ports, paths, seconds and names must be those of the server (`contract.py`).

Example:
  python -m deploy.kubernetes.check
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.kubernetes.render import Object, RenderFailed, pod_templates, render
from models.command import CommandParser

FOLDER: Final = Path(__file__).resolve().parent
OVERLAYS: Final = ("cpu", "gpu", "ingress", "hub", "ray")
VERSION: Final = "1.37"
"""Of Kubernetes' schemas."""


def schema_faults(manifest: Object) -> Iterator[str]:
    """How an object breaks its schema."""
    import jsonschema
    import kubernetes_validate
    import yaml

    custom = yaml.safe_load((FOLDER / "custom.yaml").read_text(encoding="utf-8"))
    try:
        if manifest["kind"] in custom:
            jsonschema.validate(manifest, custom[manifest["kind"]])
            for template in pod_templates(manifest):
                pod = {
                    "apiVersion": "v1",
                    "kind": "PodTemplate",
                    "metadata": {"name": "x"},
                    "template": template,
                }
                kubernetes_validate.validate(pod, VERSION, strict=True)
        else:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    except jsonschema.ValidationError as error:
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message.splitlines()[0]}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def faults(folder: Path) -> list[str]:
    """What is wrong with a folder's manifests, one line each."""
    from deploy.kubernetes.contract import contract_faults

    try:
        manifests = render(folder)
    except RenderFailed as error:
        return [str(error)]
    found = [
        f"{folder.name}: {manifest['kind']}: {fault}"
        for manifest in manifests
        for fault in schema_faults(manifest)
    ]
    # with a broken schema, the contract would meet missing fields
    return found or [f"{folder.name}: {fault}" for fault in contract_faults(manifests)]


def main(argv: list[str] | None = None) -> int:
    CommandParser("deploy.kubernetes.check", __doc__).parse_args(argv)
    found = [fault for overlay in OVERLAYS for fault in faults(FOLDER / overlay)]
    for fault in found:
        print(f"manifests: {fault}", file=sys.stderr)
    print(json.dumps({"folders": OVERLAYS, "faults": len(found)}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
