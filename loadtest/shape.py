"""Inside Locust: the users of the locustfile, a plan of stages that is played, and a record of every request.
Run by loadtest/play.py.

A file of its own, because Locust lets any shape that it finds overrule the user counts of its own page and
flags.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.arrivals import Arrival, PlannedStage
from loadtest.locustfile import BatchUser, MixedUser, SingleUser

__all__ = ["BatchUser", "MixedUser", "SingleUser", "StagesShape"]  # where Locust looks for them


class StagesShape(LoadTestShape):
    """One stage after the other. Locust asks once a second, so a stage may last up to a second longer than
    planned."""

    stages: tuple[PlannedStage, ...] = ()
    stage = ""
    """The name of the stage that is played; requests due now belong to it."""

    def tick(self) -> tuple[int, float] | None:
        elapsed_s = self.get_run_time()
        for stage in self.stages:
            if elapsed_s < stage.seconds:
                self.stage = stage.name
                # users a second: all of them at once
                return stage.rate, float(max(stage.rate for stage in self.stages))
            elapsed_s -= stage.seconds
        return None


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--plan", type=json.loads, required=True, help="JSON list of stages", include_in_web_ui=False
    )
    parser.add_argument(
        "--arrivals",
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
    file: TextIO = options.arrivals.open("w", encoding="utf-8")

    def write(context: dict[str, Arrival], **_: Any) -> None:
        print(json.dumps(asdict(context["arrival"])), file=file)

    environment.events.request.add_listener(write)
    environment.events.quitting.add_listener(lambda **_: file.close())
