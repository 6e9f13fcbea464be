"""The files of the container side, read and checked without a container engine: Dockerfile, .dockerignore,
compose.yaml, and the dashboard against the server's metrics."""

import ast
import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from conftest import ROOT

from api.settings import Settings
from deploy.image import check_refusal
from deploy.image import main as build_image

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "kore.json").read_text(encoding="utf-8"))

STAGES: dict[str, str] = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S))
"""The steps of each stage by its name, in the order of the file."""

COPIED: list[tuple[str, str]] = [
    (source, words[-1])
    for words in (line.split() for line in DOCKERFILE.splitlines() if line.startswith("COPY "))
    if not any(word.startswith("--from=") for word in words)
    for source in words[1:-1]
    if not source.startswith("--")
]
"""What the image takes from this folder, as (path here, path in the image)."""


def rooms_imported_by(*rooms: str) -> set[str]:
    """The rooms themselves, and every top-level folder of the project that they import, directly or not."""
    found: set[str] = set()
    unread = list(rooms)
    while unread:
        room = unread.pop()
        if room in found or not (ROOT / room / "__init__.py").exists():
            continue
        found.add(room)
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    unread += [alias.name.partition(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    unread.append(node.module.partition(".")[0])
    return found


def test_the_image_holds_the_rooms_that_serving_and_scoring_import_and_no_other() -> None:
    rooms = {source.strip("/") for source, target in COPIED if target == f"/app/{source}"}
    assert rooms - {"bundles/default"} == rooms_imported_by("api", "scoring")


def test_the_image_holds_the_default_bundle() -> None:
    assert ("bundles/default/", "/app/bundles/default/") in COPIED


@pytest.mark.parametrize("source", [source.strip("/") for source, _ in COPIED])
def test_what_the_image_copies_exists_and_is_sent_to_the_builder(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in IGNORED


def test_nothing_is_sent_to_the_builder_that_the_image_does_not_copy() -> None:
    assert next(line for line in IGNORED if line and not line.startswith("#")) == "*", (
        "everything is ignored first"
    )
    sent = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    assert sorted(sent) == sorted(source.strip("/") for source, _ in COPIED)
    assert IGNORED[-1] == "!bundles/default", "no pattern after it takes a file out of the bundle"


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", STAGES["runtime"], re.M)


def test_the_image_says_which_software_it_is() -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", STAGES["runtime"]))
    assert labels == {"title", "description", "licenses"}


def test_the_server_is_process_1_and_gets_the_stop_signal() -> None:
    """In shell form the shell would be process 1 and get the signal."""
    assert 'CMD ["python", "-m", "api"]' in STAGES["runtime"].splitlines()
    assert "STOPSIGNAL SIGTERM" in STAGES["runtime"].splitlines()


def test_the_image_does_not_install_training_libraries() -> None:
    extras = re.findall(r"\.\[([\w,]+)\]", DOCKERFILE)
    assert extras == ["serve,otel,cuda", "serve,otel,cpu"]


def test_the_two_targets_differ_only_by_their_runtime() -> None:
    def without_variables(stage: str) -> str:
        steps = re.sub(r"^(#.*\n)*ENV (.*\\\n)*.*\n", "", STAGES[stage], flags=re.M)
        return re.sub(r"^#.*\n", "", steps, flags=re.M).replace("cuda", "cpu").strip()

    assert without_variables("build-cuda") == without_variables("build-cpu")
    assert without_variables("cuda") == without_variables("cpu")
    assert list(STAGES)[-1] == "cpu", "the last stage is the default target"


def test_where_the_image_cannot_be_built_one_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        build_image([])
    assert "install buildah, mmdebstrap" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("status", "lines", "kept"),
    [
        (2, ["api: CUDA is required, but this machine has no GPU"], True),
        (0, ["api: CUDA is required, but this machine has no GPU"], False),
        (2, ["Traceback", "RuntimeError: this machine has no GPU"], False),
        (2, [], False),
    ],
)
def test_the_cuda_image_must_refuse_in_one_plain_line(status: int, lines: list[str], kept: bool) -> None:
    """Beside the log, which is JSON in an image."""
    image = Mock()
    image.run.return_value = (status, "", "\n".join(['{"message": "device cuda"}', *lines]))
    assert list(check_refusal(image).values()) == [kept]


def run_tool(name: str, *arguments: str) -> None:
    """Run a command that a test dependency installs. It fails when it finds something."""
    command = [str(Path(sysconfig.get_path("scripts")) / name), *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/kubernetes/ray/Dockerfile"])
def test_hadolint_finds_nothing(path: str) -> None:
    run_tool("hadolint", path)


def test_compose_keeps_to_the_compose_specification() -> None:
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def read_yaml(*path: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*path).read_text(encoding="utf-8"))


def test_compose_mounts_files_that_exist() -> None:
    services = read_yaml("compose.yaml")["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith(".")]
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_compose_passes_every_setting_on() -> None:
    """A variable without a value would remove the image's own: the device has a value therefore."""
    passed = read_yaml("compose.yaml")["services"]["api"]["environment"]
    given = [entry.partition("=")[0] for entry in passed]
    settings = {f"KORE_{name.upper()}" for name in Settings.model_fields} - {"KORE_HOST", "KORE_PORT"}
    assert sorted(given) == sorted(settings)
    set_by_the_image = set(re.findall(r"\b(KORE_\w+)=", DOCKERFILE)) & settings
    assert set_by_the_image == {entry.partition("=")[0] for entry in passed if "=" in entry}


def test_compose_opens_its_ports_on_this_machine_only_and_pins_its_images() -> None:
    services = read_yaml("compose.yaml")["services"]
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])
    pinned = [service["image"] for service in services.values() if "build" not in service]
    assert pinned
    assert all(re.search(r":v?\d+\.\d+\.\d+$", name) for name in pinned)


def test_prometheus_reads_the_api_and_grafana_reads_prometheus() -> None:
    services = read_yaml("compose.yaml")["services"]
    (scraped,) = read_yaml("deploy", "prometheus.yml")["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["api:8000"]}]
    provisioning = ("deploy", "grafana", "provisioning")
    (source,) = read_yaml(*provisioning, "datasources", "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read_yaml(*provisioning, "dashboards", "kore.yml")["providers"]
    dashboard = f"./deploy/grafana/kore.json:{provider['options']['path']}/kore.json:ro"
    assert dashboard in services["grafana"]["volumes"]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    from api.metrics import REGISTRY

    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"\bkore_\w+", expression)}
    exported = {metric.name for metric in REGISTRY.collect() if metric.name.startswith("kore_")}
    ending = re.compile("_(bucket|sum|count|total|created)$")
    assert {ending.sub("", name) for name in shown} == {ending.sub("", name) for name in exported}


def test_each_panel_of_the_dashboard_has_its_own_title_and_place() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in panels
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24
