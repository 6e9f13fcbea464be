"""A small Hugging Face hub on the loopback: the routes that `huggingface_hub` needs for a download and for an
upload. https://huggingface.co/docs/hub/api names them."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"
"""The only token that can write, and read what is private."""

Files = dict[str, bytes]


@dataclass
class Repository:
    """Branches name commits, and a commit has files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)

    def commit(self, branch: str, files: Files) -> str:
        """A branch's new commit."""
        text = repr((len(self.commits), branch, sorted(files.items())))
        name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name

    def files(self, branch: str = "main") -> Files:
        return self.commits[self.branches[branch]]


class Hub(ThreadingHTTPServer):
    """The repositories by their names, and how downloads break.

    Attributes:
        cuts: whether a download ends after half of the file.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.cuts = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, name: str, folder: Path, private: bool = False) -> Repository:
        """A repository with the files of a folder, and the file that every hub adds."""
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        repository = self.repositories.setdefault(name, Repository(private))
        repository.commit("main", {**files, ".gitattributes": b"*.onnx filter=lfs\n"})
        return repository


@contextmanager
def small_hub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = Thread(target=hub.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def _get(self, body: bool) -> None:
        match self._path():
            case ["api", "models", owner, name]:
                self._with(f"{owner}/{name}", "main", self._describe)
            case ["api", "models", owner, name, "revision", revision]:
                self._with(f"{owner}/{name}", revision, self._describe)
            case ["api", "models", owner, name, "tree", revision]:
                self._with(f"{owner}/{name}", revision, self._list)
            case [owner, name, "resolve", revision, *path]:
                self._with(
                    f"{owner}/{name}",
                    revision,
                    lambda _, commit, files: self._file(commit, files, path, body),
                )
            case _:
                self._refuse(404, "EntryNotFound")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        match self._path():
            case ["api", "validate-yaml"]:
                self._answer({"errors": [], "warnings": []})
            case _ if not self._known():
                self._refuse(401, "Unauthorized")
            case ["api", "repos", "create"]:
                asked = json.loads(content)
                name = f"{asked['organization']}/{asked['name']}"
                exists = name in self.server.repositories
                if not exists:
                    repository = self.server.repositories[name] = Repository(asked["private"])
                    repository.commit("main", {".gitattributes": b""})
                self._answer({"url": f"{self.server.url}/{name}"}, status=409 if exists else 200)
            case ["api", "models", owner, name, "branch", branch]:
                repository = self.server.repositories[f"{owner}/{name}"]
                repository.commit(branch, repository.files())
                self._answer({})
            case ["api", "models", _, _, "preupload", _]:
                paths = [file["path"] for file in json.loads(content)["files"]]
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self._answer({"files": [{"path": path, **how} for path in paths]})
            case ["api", "models", owner, name, "commit", branch]:
                repository = self.server.repositories[f"{owner}/{name}"]
                commit = repository.commit(branch, _applied(repository.files(branch), content))
                self._answer({"commitOid": commit, "commitUrl": f"{self.server.url}/{commit}"})
            case _:
                self._refuse(404, "EntryNotFound")

    def _path(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _known(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _with(self, name: str, revision: str, answer: Any) -> None:
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self._known()):
            return self._refuse(401, "RepoNotFound")  # as the real one: it does not tell which
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound")
        return answer(name, commit, repository.commits[commit])

    def _describe(self, name: str, commit: str, files: Files) -> None:
        self._answer({"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]})

    def _list(self, name: str, commit: str, files: Files) -> None:
        self._answer(
            [{"type": "file", "path": path, "size": len(files[path]), "oid": "0" * 40} for path in files]
        )

    def _file(self, commit: str, files: Files, path: list[str], body: bool) -> None:
        content = files["/".join(path)]
        tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        sent = content[: len(content) // 2] if self.server.cuts and body else content
        self._send(200, sent, body, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'})

    def _answer(self, document: object, status: int = 200) -> None:
        self._send(status, json.dumps(document).encode(), True, {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", True, {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _applied(files: Files, payload: bytes) -> Files:
    """The files after a commit, whose lines are JSON objects."""
    after = dict(files)
    for line in payload.splitlines():
        change = json.loads(line)
        match change["key"]:
            case "file":
                after[change["value"]["path"]] = base64.b64decode(change["value"]["content"])
            case "deletedFile":
                del after[change["value"]["path"]]
    return after
