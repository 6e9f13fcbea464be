"""Inside Locust: the users of the locustfile, a plan of stages, and a record of every request.
loadtest/play.py runs it.

Its own file, because a shape overrides the user counts of Locust's page and flags.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.locustfile import BatchUser, MixedUser, SingleUser
from loadtest.outcomes import Outcome, PlannedStage

__all__ = ["BatchUser", "MixedUser", "SingleUser", "StagesShape"]  # Locust looks for users here


class StagesShape(LoadTestShape):
    """One stage after the other. Locust calls `tick` once a second, so a stage can last a second longer."""

    stages: tuple[PlannedStage, ...] = ()
    stage = ""
    """The name of the current stage; requests that are due now belong to it."""

    def tick(self) -> tuple[int, float] | None:
        elapsed_s = self.get_run_time()
        for stage in self.stages:
            if elapsed_s < stage.seconds:
                self.stage = stage.name
                # users to start in a second: all of them
                return stage.rate, float(max(stage.rate for stage in self.stages))
            elapsed_s -= stage.seconds
        return None


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--plan", type=json.loads, required=True, help="JSON list of stages", include_in_web_ui=False
    )
    parser.add_argument(
        "--outcomes",
        type=Path,
        required=True,
        help="file that receives a line for each request",
        include_in_web_ui=False,
    )


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    options, shape = environment.parsed_options, environment.shape_class
    assert isinstance(shape, StagesShape)
    shape.stages = tuple(PlannedStage(**fields) for fields in options.plan)
    file: TextIO = options.outcomes.open("w", encoding="utf-8")

    def write(context: dict[str, Outcome], **_: Any) -> None:
        print(json.dumps(asdict(context["outcome"])), file=file)

    environment.events.request.add_listener(write)
    environment.events.quitting.add_listener(lambda **_: file.close())
