"""Plays stages with Locust in a process of its own, and returns the outcome of each request.

Locust replaces the sockets, threads and sleep of the whole process with gevent's when it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from loadtest.bodies import Traffic
from loadtest.outcomes import Outcome, PlannedStage
from loadtest.server import ROOT

USERS: dict[Traffic, str] = {"single": "SingleUser", "batch": "BatchUser", "mixed": "MixedUser"}
MARGIN_S = 120.0
"""Seconds for Locust to start, to wait for the last answers (60 at most, see locustfile.py) and to report."""


class PlayFailed(RuntimeError):
    """Locust failed or hung; the message says how and names its log."""


def play(
    url: str, traffic: Traffic, stages: Sequence[PlannedStage], rows: Path | None, output: Path
) -> dict[str, list[Outcome]]:
    """Send the stages' requests to the server at `url`; returns their outcomes by the stage's name.

    Leaves in `output`: locust.html (Locust's own page), requests.jsonl (one `Outcome` a line) and locust.log.

    Raises:
        PlayFailed: Locust failed, or took longer than the stages and `MARGIN_S`.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    requests, log = output / "requests.jsonl", output / "locust.log"
    plan = json.dumps([asdict(stage) for stage in stages])
    command = [sys.executable, "-m", "locust", "--locustfile", "loadtest/shape.py", "--headless"]
    command += ["--only-summary", "--host", url, "--plan", plan, "--outcomes", str(requests)]
    command += ["--html", str(output / "locust.html"), "--exit-code-on-error", "0"]
    command += ["--rows", str(rows.resolve())] if rows else []
    # LOCUST_* variables are Locust's flags for runs by hand.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOCUST_")}
    limit_s = sum(stage.seconds + 1 for stage in stages) + MARGIN_S
    try:
        with log.open("w", encoding="utf-8") as file:
            streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            status = subprocess.run(
                [*command, USERS[traffic]], cwd=ROOT, env=environment, timeout=limit_s, **streams
            ).returncode
    except subprocess.TimeoutExpired:
        raise PlayFailed(f"Locust did not end within {limit_s:.0f} s; its log is {log}") from None
    if status != 0:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise PlayFailed(f"Locust ended with status {status} ({''.join(last)}); its log is {log}")
    outcomes: dict[str, list[Outcome]] = {stage.name: [] for stage in stages}
    with requests.open(encoding="utf-8") as lines:
        for line in lines:
            outcome = Outcome(**json.loads(line))
            outcomes[outcome.stage].append(outcome)
    return outcomes
