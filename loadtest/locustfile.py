"""Locust users that ask for relations in an open loop: `python -m loadtest` runs them, or do it by hand, with Locust's own page:

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 SingleUser

from the root of the repository, with `--rows rows.jsonl` and KORE_API_KEY where they are needed.

A user here is no person who waits for an answer, but a source of arrivals: a Poisson process of one example a
second (BatchUser, with 16
examples a request: a request every 16 seconds on average). Processes of that kind add up to one of the same
kind, so N users are N examples a second, and Locust's user count is the arrival rate. Response times count
from the time at which a request was due, not from the time at which it was sent; how late requests were sent
is logged at the end.
"""

import itertools
import logging
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gevent
from gevent.pool import Group
from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.log import greenlet_exception_logger

from loadtest.arrivals import RIGHT, Arrival, due_times
from loadtest.bodies import Body, InvalidRows, Traffic, judge, make_bodies, mean_examples, read_rows
from loadtest.figures import describe_late_sends

CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 10.0, 40.0
"""The server's own deadline is 30 s: by then it has answered, if only 504."""
DRAIN_S = CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S + 10
"""Seconds after which every request has ended one way or the other."""
CONNECTIONS = 20_000
"""A limit below the number of requests under way would be a queue on the wrong side, which the server does
not see."""

log = logging.getLogger("loadtest")
under_way = Group()
lateness_s: list[float] = []
seeds = itertools.count(1)


class OpenLoopUser(FastHttpUser):
    """A source of one example a second. Each request has a greenlet of its own, which outlives the user."""

    abstract = True
    traffic: ClassVar[Traffic]
    bodies: ClassVar[Iterator[Body]]
    examples_a_request: ClassVar[float]

    insecure = False  # Locust's default is to believe any certificate, and an API key may go this way
    client_pool = HTTPClientPool(
        concurrency=CONNECTIONS, connection_timeout=CONNECT_TIMEOUT_S, network_timeout=ANSWER_TIMEOUT_S
    )

    def on_start(self) -> None:
        # Seeded, so that two runs are alike; with the worker's number, so that the processes of `locust
        # --processes` are not.
        generator = random.Random(f"{self.environment.runner.worker_index} {next(seeds)}")
        self.due = due_times(1 / self.examples_a_request, time.perf_counter(), generator)

    @task
    def arrive(self) -> None:
        """Wait until the next request is due and send it on its way; its answer is not waited for."""
        due_s = next(self.due)
        gevent.sleep(max(0.0, due_s - time.perf_counter()))
        under_way.spawn(self.ask, next(self.bodies), due_s).link_exception(greenlet_exception_logger(log))

    def ask(self, body: Body, due_s: float) -> None:
        """Post one request and report it, with the time since it was due as its response time."""
        # A plan that is played (loadtest/shape.py) has stages; without one there is one name for each kind of
        # traffic.
        stage = getattr(self.environment.shape_class, "stage", f"/relations, {self.traffic}")
        sent_s = time.perf_counter()
        with self.client.post("/relations", json=body.document, name=stage, catch_response=True) as response:
            answered_s = time.perf_counter()
            outcome = judge(body, response.status_code, response.content)
            arrival = Arrival(stage, body.examples, outcome, due_s, sent_s, answered_s)
            lateness_s.append(arrival.late_s)
            response.request_meta["response_time"] = 1000 * arrival.seconds
            response.request_meta["context"] = {"arrival": arrival}
            if outcome == RIGHT:
                response.success()
            else:
                response.failure(outcome)


class SingleUser(OpenLoopUser):
    """One example a request."""

    traffic = "single"


class BatchUser(OpenLoopUser):
    """Sixteen examples a request."""

    traffic = "batch"


class MixedUser(OpenLoopUser):
    """Mostly one example a request, some batches; see `loadtest.bodies`."""

    traffic = "mixed"


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows to ask; sentences of our own by default",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--api-key", env_var="KORE_API_KEY", help="bearer token to send", include_in_web_ui=False
    )


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Make the requests before the clock runs."""
    options = environment.parsed_options
    try:
        rows = read_rows(options.rows)
    except InvalidRows as error:
        print(f"loadtest: {error}", file=sys.stderr)
        sys.exit(2)
    for user in environment.user_classes:
        bodies = make_bodies(user.traffic, rows)
        user.bodies, user.examples_a_request = itertools.cycle(bodies), mean_examples(bodies)
        user.default_headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else None


@events.test_stop.add_listener
def drain(**_: Any) -> None:
    """Requests that were sent before the end are waited for and counted; without them the slowest would be
    missing."""
    under_way.join(timeout=DRAIN_S)
    log.info(describe_late_sends(lateness_s))
    lateness_s.clear()
