"""Build the container image without a container engine, start it, and ask it: needs root on Debian or Ubuntu.

1. mmdebstrap makes a base image of Debian's packages. No registry of images is asked.
2. buildah builds the Dockerfile's target on that base. `make image` is the same build with Docker.
3. The image's command runs as under `docker run --read-only --cap-drop ALL --security-opt no-new-privileges`:
   its own user, variables and folder, no capability, a read-only root, process 1 of its own processes.
4. The server answers a request, `python -m scoring - -` scores rows from standard input, and SIGTERM ends the
   server. Where no GPU is, the cuda image must refuse to start in one plain line, and pass the other checks
   with KORE_DEVICE=auto.

Example:
  apt-get install buildah mmdebstrap && python3 -m deploy.image
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from loadtest.command import conclude
from loadtest.server import free_port

ROOT: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = ("buildah", "mmdebstrap", "unshare", "mount", "chroot")
SUITE: Final = "bookworm"
PACKAGES: Final = "ca-certificates,python3,python3-pip,python3-venv,python-is-python3"
LARGEST_MB: Final = {"cpu": 500, "cuda": 2800}
"""Megabytes of all files of an image on this base: cpu has 475, cuda 2616."""
USER: Final = "10001:10001"
READY_S: Final = 120.0
STOP_S: Final = 50.0
CERTIFICATES: Final = "/etc/ssl/certs"
"""Given to the build, not to the image: pip must trust what this machine trusts."""

ROW: Final = {
    "guid": "a",
    "sentence": "배우 윤가람은 1990년 3월 2일 부산에서 태어났다.",
    "subject_entity": {"word": "윤가람", "type": "PER"},
    "object_entity": {"word": "1990년 3월 2일", "type": "DAT"},
}
RELATION: Final = "per:date_of_birth"


class ImageFailed(RuntimeError):
    """A step failed; the message is one line, with the end of the tool's output after it."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its files in a folder, and the settings that containers of it get."""

    files: Path
    settings: dict[str, Any]
    health: list[str]

    @property
    def megabytes(self) -> int:
        """Of all files, in units of 1,000,000 bytes."""
        counted = _run("du", "--summarize", "--apparent-size", "--block-size=1MB", str(self.files))
        return int(counted.split()[0])

    def start(self, errors: IO[bytes], *command: str, **variables: str) -> "subprocess.Popen[bytes]":
        """Run a command of the image as a locked container of it would run; by default the image's own.

        Args:
            errors: a file for its stderr.
        """
        given = [f"{name}={value}" for name, value in variables.items()]
        user, group = self.settings["User"].split(":")
        locked = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]
        locked += ["--bounding-set=-all", "--inh-caps=-all"]
        inside = ["env", "--ignore-environment", f"--chdir={self.settings['WorkingDir']}"]
        inside += [*self.settings["Env"], *given, *(command or self.settings["Cmd"])]
        files = shlex.quote(str(self.files))
        steps = [
            f"mount --bind {files} {files}",
            f"mount -o remount,bind,ro {files}",
            f"mount -t proc proc {files}/proc",
            f"mount --rbind /dev {files}/dev",
            shlex.join(["exec", "chroot", str(self.files), *locked, *inside]),
        ]
        # the mounts end with the namespace; its process 1 becomes the command
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", "\n".join(steps)]
        return subprocess.Popen(alone, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)

    def run(self, *command: str, text: str = "", **variables: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a command that gets `text` on its standard input."""
        with tempfile.TemporaryFile() as errors, self.start(errors, *command, **variables) as process:
            try:
                out, _ = process.communicate(text.encode(), timeout=READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise ImageFailed(f"{shlex.join(command)} did not end within {READY_S:.0f} s") from None
            return process.returncode, out.decode(), _content(errors)


def _run(*command: str, cwd: Path | None = None) -> str:
    """Run a tool; returns its stdout.

    Raises:
        ImageFailed: its exit status is not 0.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ImageFailed(f"{' '.join(command[:2])} failed with status {done.returncode}\n{end}")
    return done.stdout


@contextmanager
def built(target: str, folder: Path) -> Iterator[Image]:
    """The image of a target of the Dockerfile, built in an empty folder.

    Raises:
        ImageFailed: a tool failed.
    """
    os.environ["BUILDAH_ISOLATION"] = "chroot"  # no other one works inside a container
    places = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]
    buildah = ("buildah", *places)
    slim = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    tar = str(folder / "base.tar")
    _run(
        "mmdebstrap",
        "--variant=minbase",
        "--dpkgopt=force-unsafe-io",
        *slim,
        f"--include={PACKAGES}",
        SUITE,
        tar,
    )
    base = _run(*buildah, "from", "scratch").strip()
    _run(*buildah, "add", "--quiet", base, tar, "/")
    _run(*buildah, "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", base)
    _run(*buildah, "commit", "--quiet", "--rm", base, "kore-base")
    _say("the base is made")
    trusted = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"] if Path(CERTIFICATES).is_dir() else []
    options = ["--format=docker", *trusted, "--build-arg=BASE=localhost/kore-base", f"--target={target}"]
    _run(*buildah, "build", *options, "--tag=kore-serve", ".", cwd=ROOT)
    _say(f"the target {target} is built")
    container = _run(*buildah, "from", "--pull-never", "localhost/kore-serve").strip()
    try:
        files = Path(_run(*buildah, "mount", container).strip())
        inspected = json.loads(_run(*buildah, "inspect", container))
        health = inspected["Docker"]["config"]["Healthcheck"]["Test"][1:]
        yield Image(files, inspected["OCIv1"]["config"], health)
    finally:
        _run(*buildah, "umount", container)


def check_server(image: Image, **settings: str) -> dict[str, bool]:
    """Start the image's command, ask it, and stop it: what holds, by sentence."""
    port = str(free_port())
    variables = {"KORE_HOST": "127.0.0.1", "KORE_PORT": port, "KORE_DRAIN_DELAY_S": "0", **settings}
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as errors, image.start(errors, **variables) as process:
        try:
            ready = bool(_ask(f"{address}/ready", None, until=time.monotonic() + READY_S))
            relation = _ask(f"{address}/relations", ROW).get("relation")
            healthy = image.run(*image.health, **variables)[0] == 0
            # unshare waits for its only child, the server; without one the server has ended already
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            status = process.poll()
        finally:
            process.kill()
        if not ready or relation != RELATION or status:
            _say(_content(errors)[-2000:])
    return {
        "the server is ready": ready,
        f"a request is answered with {RELATION}": relation == RELATION,
        "the image's health check passes": healthy,
        f"SIGTERM ends the server within {STOP_S:.0f} s with status 0": status == 0,
    }


def check_commands(image: Image, **settings: str) -> dict[str, bool]:
    """Run other commands of the image: what holds, by sentence."""
    row = json.dumps(ROW) + "\n"
    status, out, err = image.run("python", "-m", "scoring", "-", "-", text=row, **settings)
    scored = [json.loads(line) for line in out.splitlines()]
    if status:
        _say(err)
    who = image.run("id", "-u")[1].strip()
    written = [image.run("touch", f"{place}/probe")[2] for place in ("/app", "/tmp", "/opt/venv")]
    return {
        "a row from standard input is scored": [row.get("relation") for row in scored] == [RELATION],
        f"the user is {USER}": f"{who}:{who}" == USER == image.settings["User"],
        "no file can be written": all("Read-only" in error for error in written),
    }


def check_refusal(image: Image) -> dict[str, bool]:
    """Start the cuda image where no GPU is: what holds, by sentence."""
    status, _, err = image.run(KORE_HOST="127.0.0.1", KORE_PORT=str(free_port()))
    lines = [line for line in err.splitlines() if not line.startswith("{")]  # the log is JSON
    _say("\n".join(lines))
    plain = len(lines) == 1 and "no GPU" in lines[0]
    return {"without a GPU the server ends with status 2, after one plain line": status == 2 and plain}


def _ask(url: str, document: object, until: float = 0.0) -> dict[str, Any]:
    """The JSON of an answer 200, tried until a time on the monotonic clock; empty without one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    while True:
        try:
            with opener.open(request, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, urllib.error.HTTPError):
            if time.monotonic() >= until:
                return {}
            time.sleep(0.2)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m deploy.image",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", choices=tuple(LARGEST_MB), default="cpu", help="default: cpu")
    arguments = parser.parse_args(argv)
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        need = f"install {', '.join(missing)}" if missing else "run it as root"
        parser.error(f"the image cannot be built here: {need}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kore-image-") as folder:
        try:
            with built(arguments.target, Path(folder)) as image:
                build_s = time.monotonic() - began
                megabytes, largest = image.megabytes, LARGEST_MB[arguments.target]
                promises = {f"the image has {megabytes} MB; at most {largest}": megabytes <= largest}
                # the chroot shows no GPU to the cuda image
                settings = {} if arguments.target == "cpu" else {"KORE_DEVICE": "auto"}
                if arguments.target == "cuda":
                    promises |= check_refusal(image)
                promises |= check_commands(image, **settings) | check_server(image, **settings)
        except ImageFailed as error:
            _say(f"python -m deploy.image: {error}")
            return 1
    total_s = time.monotonic() - began
    figures = {"target": arguments.target, "megabytes": megabytes}
    figures |= {"build_s": round(build_s), "seconds": round(total_s)}
    return conclude("image", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
