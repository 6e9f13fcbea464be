"""The container side without a container engine.

The Dockerfile's own steps are carried out in folders, one for each stage's root, and what its CMD starts
there is asked over HTTP. That shows all but the base image and the user. compose.yaml and the dashboard are
held against their schema and the server's metrics.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from string import Template

import httpx
import pytest
import yaml
from conftest import DEFAULT_BUNDLE, ROOT
from docker.utils.build import exclude_paths

dockerfile = pytest.importorskip(
    "dockerfile", reason="there is no wheel of the Dockerfile parser for this platform"
)

QUESTION = {
    "sentence": "이순신은 조선 중기의 무신이다.",
    "subject_entity": {"word": "이순신", "type": "PER"},
    "object_entity": {"word": "무신", "type": "POH"},
}
STEPS = dockerfile.parse_file(str(ROOT / "Dockerfile"))


@dataclass
class Stage:
    """One stage of the image: a folder in place of its root, and what its steps have set."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    stop_signal: str = ""
    health: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def path(self, place: str) -> Path:
        """Where a path of the image lies."""
        return self.root / os.path.join(self.folder, place).lstrip("/")

    def real(self, text: str) -> str:
        """A command or a value of the image with the paths that the Dockerfile makes put below the root;
        those of the base image stay."""
        made = "|".join(sorted({place.split("/")[1] for place in _made_places()}))
        return re.sub(rf"(?<![\w./])/({made})(?=[/:'\s]|$)", lambda found: str(self.root / found[1]), text)

    def variables(self) -> dict[str, str]:
        return {name: self.real(value) for name, value in self.environment.items()}

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file below the root with its size and time of change."""
        found = {str(path.relative_to(self.root)): path.lstat() for path in self.root.rglob("*")}
        return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


class Replay:
    """Carries out the steps of the Dockerfile's stages, each stage once and only when another needs it, as
    BuildKit does.

    Args:
        workplace: an empty folder. An environment with pip in it stands for the base image.
    """

    def __init__(self, workplace: Path) -> None:
        self._workplace = workplace
        self._built: dict[str, Stage] = {}
        self._context = exclude_paths(
            str(ROOT), (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        )
        self._arguments = dict(step.value[0].split("=", 1) for step in STEPS if step.cmd == "ARG")
        venv.create(workplace / "base", with_pip=True)
        self._base = {"PATH": f"{workplace / 'base' / 'bin'}:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def build(self, name: str) -> Stage:
        if name not in self._built:
            first, *steps = _stages()[name]
            stage = Stage(self._workplace / name)
            origin = Template(first.value[0]).substitute(self._arguments)
            if origin in _stages():
                parent = self.build(origin)
                # Links, not copies: a step adds files and changes none, and an environment has 250 MB.
                shutil.copytree(parent.root, stage.root, symlinks=True, copy_function=os.link)
                stage.environment, stage.folder = dict(parent.environment), parent.folder
                stage.labels, stage.user, stage.stop_signal = (
                    dict(parent.labels),
                    parent.user,
                    parent.stop_signal,
                )
                stage.health, stage.command = parent.health, parent.command
            else:
                stage.root.mkdir()
                stage.environment = {} if origin == "scratch" else dict(self._base)
            for step in steps:
                self._carry_out(step, stage)
            self._built[name] = stage
        return self._built[name]

    def _carry_out(self, step: dockerfile.Command, stage: Stage) -> None:
        match step.cmd:
            case "ENV":
                for name, value in _pairs(step):
                    stage.environment[name] = Template(value).substitute(stage.environment)
            case "LABEL":
                stage.labels |= _pairs(step)
            case "WORKDIR":
                stage.folder = step.value[0]
                stage.path(".").mkdir(parents=True, exist_ok=True)
            case "RUN":
                assert not step.json
                # of this very test run; the rest says how packages are fetched here
                own = ("PYTHON", "VIRTUAL_ENV", "KORE_")
                session = {name: value for name, value in os.environ.items() if not name.startswith(own)}
                command = ["/bin/sh", "-ec", stage.real(step.value[0])]
                subprocess.run(
                    command,
                    cwd=stage.path("."),
                    env=session | stage.variables(),
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            case "COPY":
                self._copy(step, stage)
            case "USER":
                stage.user = step.value[0]
            case "STOPSIGNAL":
                stage.stop_signal = step.value[0]
            case "HEALTHCHECK":
                assert (step.json, step.value[0]) == (True, "CMD")
                stage.health = step.value[1:]
            case "CMD":
                assert step.json, "in shell form the shell would get the signals"
                stage.command = step.value
            case "EXPOSE":
                pass
            case other:
                raise NotImplementedError(f"{other}: {step.original}")

    def _copy(self, step: dockerfile.Command, stage: Stage) -> None:
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in step.flags)
        assert flags.keys() <= {"from", "chmod"}
        *sources, target = step.value
        for source in sources:
            to = stage.path(target)
            if "from" in flags:
                shutil.copytree(
                    self.build(flags["from"]).path(source),
                    to,
                    symlinks=True,
                    dirs_exist_ok=True,
                    copy_function=os.link,
                )
                continue
            if (ROOT / source).is_file():
                assert source in self._context
                pairs = [(source, to / source if target.endswith("/") else to)]
            else:
                pairs = [
                    (name, to / Path(name).relative_to(source))
                    for name in sorted(self._context)
                    if Path(source) in Path(name).parents
                ]
                assert pairs or not DEFAULT_BUNDLE.exists(), f"nothing to copy: {source}"
            for name, place in pairs:
                if (ROOT / name).is_file():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, place)
                    place.chmod(int(flags.get("chmod", "0644"), 8))


def _stages() -> dict[str, list[dockerfile.Command]]:
    """The steps of each stage by its name, FROM first."""
    stages: dict[str, list[dockerfile.Command]] = {}
    for step in STEPS:
        if step.cmd == "FROM":
            steps = stages.setdefault(step.value[2], [])
        if stages:
            steps.append(step)
    return stages


def _made_places() -> list[str]:
    """The absolute paths that the Dockerfile itself makes."""
    return [
        step.value[-1] for step in STEPS if step.cmd in ("WORKDIR", "COPY") and step.value[-1].startswith("/")
    ]


def _pairs(step: dockerfile.Command) -> list[tuple[str, str]]:
    values = [shlex.split(value)[0] for value in step.value]
    return list(zip(values[::2], values[1::2], strict=True))


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    """The default target: the last stage."""
    with tempfile.TemporaryDirectory() as workplace:
        yield Replay(Path(workplace)).build(list(_stages())[-1])


@contextmanager
def started(image: Stage, **settings: str) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """What CMD starts with the variables of the image and no others but `settings`, once it is ready; its
    variables with the real port."""
    home = {"HOME": str(image.root)}  # an engine's choice for a user without a name
    variables = image.variables() | home | {"KORE_PORT": "0", "KORE_DRAIN_DELAY_S": "0"} | settings
    with subprocess.Popen(
        image.command, cwd=image.path("."), env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if "ready:" in line:
                    break
            else:
                raise AssertionError("the server never became ready:\n" + "".join(lines))
            address = re.search(r"listening on http://([\d.]+):(\d+)", "".join(lines))
            assert address is not None
            assert address[1] == "0.0.0.0"
            yield variables | {"KORE_PORT": address[2]}, process
        finally:
            process.kill()


def test_what_it_starts_answers_writes_nothing_and_stops_when_told(
    image: Stage, request: pytest.FixtureRequest
) -> None:
    settings = {} if DEFAULT_BUNDLE.exists() else {"KORE_BUNDLE": str(request.getfixturevalue("tiny_bundle"))}
    before = image.files()
    with started(image, **settings) as (variables, process):
        answer = httpx.post(
            f"http://127.0.0.1:{variables['KORE_PORT']}/relations", json=QUESTION, timeout=60, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["relation"]
        health = [image.real(word) for word in image.health]
        # nobody is there: the check must not go through it
        proxied = variables | {"http_proxy": "http://127.0.0.1:9"}
        assert subprocess.run(health, env=proxied, check=False).returncode == 0
        process.send_signal(signal.Signals[image.stop_signal])
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert subprocess.run(health, env=variables, check=False, stderr=subprocess.DEVNULL).returncode != 0
    assert image.files() == before  # a read-only root file system, its home included, is enough


def test_it_holds_the_served_rooms_a_bundle_the_environment_and_nothing_else(image: Stage) -> None:
    assert {path.name for path in image.root.iterdir()} == {"app", "opt"}
    assert [path.name for path in image.path("/opt").iterdir()] == ["venv"]
    assert (
        {"models", "api"}
        <= {path.name for path in image.path("/app").iterdir()}
        <= {"models", "engine", "api", "scoring", "bundles"}
    )
    assert [path.name for path in image.path("/app").glob("bundles/*")] == (
        ["default"] if DEFAULT_BUNDLE.exists() else []
    )
    assert {
        path.suffix
        for path in image.path("/app").rglob("*")
        if path.is_file() and "bundles" not in path.parts
    } == {".py"}
    bundle = {path.name for path in image.path("/app/bundles/default").rglob("*")}
    assert bundle == {path.name for path in DEFAULT_BUNDLE.rglob("*")}


def test_its_environment_has_no_training_library_and_no_installer(image: Stage) -> None:
    packages = {
        found.name.lower()
        for found in distributions(
            path=[str(path) for path in image.root.glob("opt/venv/lib/*/site-packages")]
        )
    }
    assert {"fastapi", "onnxruntime", "tokenizers", "kore-serve"} <= packages
    assert (
        packages & {"torch", "transformers", "optimum", "onnx", "onnxruntime-gpu", "pip", "setuptools"}
        == set()
    )


def test_it_runs_as_a_numbered_user_and_says_what_it_is(image: Stage) -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.user)
    assert {
        f"org.opencontainers.image.{name}" for name in ("title", "description", "licenses")
    } <= image.labels.keys()


def test_the_two_targets_differ_only_by_their_runtime() -> None:
    stages = {
        name: [step.original for step in steps if step.cmd != "ENV"] for name, steps in _stages().items()
    }
    assert [text.replace("cuda", "cpu") for text in stages["build-cuda"]] == stages["build-cpu"]
    assert [text.replace("cuda", "cpu") for text in stages["cuda"]] == stages["cpu"]
    assert list(stages)[-1] == "cpu"


def run_tool(name: str, *arguments: str) -> None:
    """Run a command that a package has installed beside this Python; its findings are the failure."""
    command = [str(Path(sysconfig.get_path("scripts")) / name), *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing() -> None:
    run_tool("hadolint", "Dockerfile")


def test_compose_keeps_to_the_specification() -> None:
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_compose_mounts_what_exists_and_shows_it_to_this_machine_only() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith(".")]
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])
    pinned = [service["image"] for service in services.values() if "build" not in service]
    assert all(re.search(r":v?\d+\.\d+\.\d+$", name) for name in pinned)


def test_what_compose_provisions_fits_together() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (scraped,) = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))[
        "scrape_configs"
    ]
    assert scraped["static_configs"] == [{"targets": ["api:8000"]}]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "kore.yml").read_text(encoding="utf-8"))[
        "providers"
    ]
    assert (
        f"./deploy/grafana/kore.json:{provider['options']['path']}/kore.json:ro"
        in services["grafana"]["volumes"]
    )


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    from api.metrics import REGISTRY

    dashboard = json.loads((ROOT / "deploy" / "grafana" / "kore.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"\bkore_\w+", expression)}
    exported = {metric.name for metric in REGISTRY.collect()}
    ending = re.compile("_(bucket|sum|count|total|created)$")
    assert {ending.sub("", name) for name in shown} == {ending.sub("", name) for name in exported}


def test_the_dashboard_names_its_panels_once_and_lays_them_side_by_side() -> None:
    panels = json.loads((ROOT / "deploy" / "grafana" / "kore.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in panels
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24
