"""The Kubernetes manifests: `make manifests` accepts them as they are, and names what a change breaks."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from api.settings import DEFAULT_PORT
from deploy.kubernetes.check import FOLDER, faults
from deploy.kubernetes.check import main as check
from deploy.kubernetes.render import pod_templates, render

PLAIN = ("cpu", "gpu", "ingress", "hub")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "kubernetes"))


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("overlay", PLAIN)
def test_the_manifests_agree_with_kubernetes_and_with_the_server(overlay: str) -> None:
    assert faults(FOLDER / overlay) == []


OF_RAY = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
"""Ray's own fields have deprecated arguments."""


@OF_RAY
@pytest.mark.slow
def test_the_command_checks_every_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert check([]) == 0
    assert '"ray"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overlay", "name", "old", "new", "fault"),
    [
        ("cpu", "base/deployment.yaml", "periodSeconds", "periodSecond", "periodSecond"),
        ("cpu", "base/service.yaml", "port: 80", "port: eighty", "eighty"),
        ("cpu", "base/monitor.yaml", "interval", "intervall", "intervall"),
        ("cpu", "base/network.yaml", "policyTypes", "policyType", "policyType"),
        ("cpu", "base/kustomization.yaml", "service.yaml", "services.yaml", "services.yaml"),
        ("cpu", "base/deployment.yaml", "containerPort: 8000", "containerPort: 8080", "listens on 8000"),
        ("cpu", "base/service.yaml", "targetPort: http", "targetPort: web", "targetPort web"),
        ("cpu", "base/network.yaml", "port: http", "port: web", "port web"),
        ("cpu", "base/monitor.yaml", "/metrics", "/metric", "/metric is no route"),
        ("cpu", "base/deployment.yaml", "path: /health", "path: /ready", "livenessProbe is /ready"),
        ("cpu", "base/deployment.yaml", "Seconds: 50", "Seconds: 40", "draining takes up to 45 s"),
        ("gpu", "gpu/resources.yaml", "KORE_DEVICE", "KORE_DEVISE", "KORE_DEVISE is not a setting"),
        ("gpu", "gpu/resources.yaml", "value: cuda", "value: cuba", "KORE_DEVICE"),
        ("hub", "hub/bundle.yaml", "hf://owner/name@main", "hf://name", "KORE_BUNDLE"),
        ("hub", "hub/bundle.yaml", "KORE_BUNDLE", "KORE_PORT", "KORE_PORT"),
        ("cpu", "base/deployment.yaml", "enableServiceLinks: false", "enableServiceLinks: true", "KORE_*"),
        ("cpu", "base/autoscaler.yaml", "kore_estimated_wait_seconds", "kore_wait", "kore_wait is no metric"),
        ("cpu", "base/monitor.yaml", "name: kore-serve\n  endp", "name: kore\n  endp", "selects nothing"),
        ("cpu", "cpu/resources.yaml", "limits: *size", 'limits: {cpu: "8"}', "requests and limits differ"),
        ("ingress", "ingress/ingress.yaml", "size: 4m", "size: 1m", "4194304 bytes"),
        ("ingress", "ingress/ingress.yaml", '"40"', '"30"', "deadline of 30 s"),
    ],
)
def test_a_fault_is_named(copy: Path, overlay: str, name: str, old: str, new: str, fault: str) -> None:
    change(copy, name, old, new)
    found = faults(copy / overlay)
    assert found
    assert fault in "\n".join(found)


@OF_RAY
@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("rayVersion", "rayVersions", "rayVersions"),
        ("port: 8000}\n", "port: 8001}\n", "where Ray Serve listens"),
        ("args: {replicas", "args: {replica", "replica"),
        ("api.cluster:build", "api.clusters:build", "api.clusters:build"),
        ("import_path", "importpath", "serveConfigV2"),
        ("replicas: 2, cpus: 4", "replicas: 3, cpus: 4", "do not fit"),
        ("Seconds: 50", "Seconds: 30", "draining takes up to 45 s"),
        ("readOnlyRoot", "readOnlyroot", "readOnlyroot"),
    ],
)
def test_a_fault_of_the_ray_service_is_named(copy: Path, old: str, new: str, fault: str) -> None:
    change(copy, "ray/service.yaml", old, new)
    found = faults(copy / "ray")
    assert found
    assert fault in "\n".join(found)


def pods() -> list[dict[str, Any]]:
    folders = [FOLDER / name for name in (*PLAIN, "ray")]
    return [
        pod["spec"] for folder in folders for manifest in render(folder) for pod in pod_templates(manifest)
    ]


def test_every_pod_runs_locked_down_as_the_user_of_the_image() -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    for spec in pods():
        inside = spec["securityContext"]
        assert (inside["runAsUser"], inside["runAsNonRoot"]) == (int(user), True)
        assert inside["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"] is True
            assert locked["allowPrivilegeEscalation"] is False
            assert locked["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}


def test_the_image_listens_on_the_port_that_the_manifests_name() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(rf"^ +KORE_PORT={DEFAULT_PORT}$", text, re.M)
    assert re.search(r"^ +KORE_HOST=0\.0\.0\.0 ", text, re.M)


def test_the_adapter_offers_the_metric_of_the_autoscaler() -> None:
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"][
        "custom"
    ]
    (autoscaler,) = [each for each in render(FOLDER / "cpu") if each["kind"] == "HorizontalPodAutoscaler"]
    (metric,) = autoscaler["spec"]["metrics"]
    assert rule["seriesQuery"].startswith(metric["pods"]["metric"]["name"] + "{")


def test_the_ray_image_has_the_pinned_ray() -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert f"'ray[serve]=={pinned}'" in (FOLDER / "ray" / "Dockerfile").read_text(encoding="utf-8")
    (service,) = [each for each in render(FOLDER / "ray") if each["kind"] == "RayService"]
    assert service["spec"]["rayClusterConfig"]["rayVersion"] == pinned
