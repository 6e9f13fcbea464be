"""The server on a Ray cluster: Ray Serve's own front door, and behind it the same answers, errors and
documents as without Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.lanes import Lanes
from loadtest.sentences import make_long_rows
from models.bundle import Bundle
from models.example import Example

pytest.importorskip("ray.serve")
ROOT = Path(__file__).parents[1]

CLUSTER = """
import contextlib, json, socket, sys, time
import httpx, ray
from ray import serve

with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
from api.cluster import Deployment, build

# on a busy machine the front door comes later than it waits
with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
    serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(build(Deployment(bundle=sys.argv[1], cpus=1)), name="relations", route_prefix="/")
with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
    while True:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/ready").status_code == 200:
                break
        time.sleep(0.5)
    said = []
    for body in json.loads(sys.stdin.read()):
        answer = client.post("/relations", json=body)
        said.append([answer.status_code, answer.json(), answer.headers.get("server-timing", "")])
    documents = {path: client.get(path).json() for path in ("/ready", "/info", "/openapi.json")}
with open(sys.argv[2], "w") as file:  # Ray writes to stdout too
    json.dump({"said": said, **documents}, file)
ray.shutdown()
"""


@pytest.mark.slow
def test_behind_ray_serve_answers_are_those_of_the_ensemble(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = make_long_rows(6)
    bodies = [*({**row, "top_k": 30} for row in rows), {"examples": rows}, {"sentence": "이순신은 무신이다."}]
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(tiny_bundle), str(tmp_path / "found.json")],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "KORE_"))}
        | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "KORE_TUNING_S": "0",
        },
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_bytes())
    *single, several, bad = found["said"]
    expected = Lanes.load(Bundle.open(tiny_bundle)).predict([Example.from_row(row) for row in rows])
    for (status, answer, timing), prediction in zip(single, expected, strict=True):
        assert (status, answer["relation"]) == (200, prediction.relation)
        assert answer["score"] == pytest.approx(prediction.score, abs=1e-6)
        assert "inference;dur=" in timing
    assert [answer["relation"] for answer in several[1]["predictions"]] == [
        prediction.relation for prediction in expected
    ]
    assert bad[0] == 422
    assert {tuple(fault["loc"]) for fault in bad[1]["detail"]} == {
        ("body", "subject_entity"),
        ("body", "object_entity"),
    }
    assert found["/ready"] == {"status": "ready"}
    assert found["/info"]["lanes"] == 1, "the replica has one core of the machine"
    assert "/relations" in found["/openapi.json"]["paths"]
