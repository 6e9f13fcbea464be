"""Locust users that send relation requests in an open loop. `python -m loadtest` runs them. By hand, on
Locust's page:

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 SingleUser

Run it in the repository's root, with `--rows rows.jsonl` and KORE_API_KEY where they are needed.

A user here is a source of arrivals, not a person who waits for an answer: a Poisson process of one example a
second (BatchUser: a request of 16 examples every 16 seconds on average). Such processes add up to one of the
same kind, so N users are N examples a second: Locust's user count is the arrival rate. Response times count
from when a request was due, not from when it was sent. The log ends with how late requests were sent.
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

from loadtest.bodies import Body, Traffic, UnusableRows, judge, make_bodies, mean_examples, read_rows
from loadtest.figures import describe_late_sends
from loadtest.outcomes import RIGHT, Outcome, due_times

CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 10.0, 40.0
"""The server's own deadline is 30 s: it has answered by then, at least 504."""
DRAIN_S = CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S + 10
"""Seconds after which every request has ended."""
CONNECTIONS = 20_000
"""More than there are requests at a time: otherwise they would queue here, where the server does not see
them."""

log = logging.getLogger("loadtest")
under_way = Group()
lateness_s: list[float] = []
seeds = itertools.count(1)


class OpenLoopUser(FastHttpUser):
    """A source of one example a second. Each request has its own greenlet, which outlives the user."""

    abstract = True
    traffic: ClassVar[Traffic]
    bodies: ClassVar[Iterator[Body]]
    examples_a_request: ClassVar[float]

    insecure = False  # Locust accepts any certificate by default, and requests carry an API key
    client_pool = HTTPClientPool(
        concurrency=CONNECTIONS, connection_timeout=CONNECT_TIMEOUT_S, network_timeout=ANSWER_TIMEOUT_S
    )

    def on_start(self) -> None:
        # Seeded, so that two runs send alike; the worker's number keeps the processes of `locust --processes`
        # apart.
        generator = random.Random(f"{self.environment.runner.worker_index} {next(seeds)}")
        self.due = due_times(1 / self.examples_a_request, time.perf_counter(), generator)

    @task
    def arrive(self) -> None:
        """Wait until the next request is due and send it, without waiting for its answer."""
        due_s = next(self.due)
        gevent.sleep(max(0.0, due_s - time.perf_counter()))
        under_way.spawn(self.ask, next(self.bodies), due_s).link_exception(greenlet_exception_logger(log))

    def ask(self, body: Body, due_s: float) -> None:
        """Post one request and report it; its response time counts from when it was due."""
        # With a plan (loadtest/shape.py) a request has its stage's name, without one its traffic's.
        stage = getattr(self.environment.shape_class, "stage", f"/relations, {self.traffic}")
        sent_s = time.perf_counter()
        with self.client.post("/relations", json=body.document, name=stage, catch_response=True) as response:
            answered_s = time.perf_counter()
            result = judge(body, response.status_code, response.content)
            outcome = Outcome(result, due_s, sent_s, answered_s, stage, body.examples)
            lateness_s.append(outcome.late_s)
            response.request_meta["response_time"] = 1000 * outcome.seconds
            response.request_meta["context"] = {"outcome": outcome}
            if result == RIGHT:
                response.success()
            else:
                response.failure(result)


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
        help="JSONL of KLUE-RE rows to send (default: shipped sentences)",
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
    except UnusableRows as error:
        print(f"loadtest: {error}", file=sys.stderr)
        sys.exit(2)
    for user in environment.user_classes:
        bodies = make_bodies(user.traffic, rows)
        user.bodies, user.examples_a_request = itertools.cycle(bodies), mean_examples(bodies)
        user.default_headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else None


@events.test_stop.add_listener
def drain(**_: Any) -> None:
    """Wait for the requests that were sent before the end: the slowest are among them."""
    under_way.join(timeout=DRAIN_S)
    log.info(describe_late_sends(lateness_s))
    lateness_s.clear()
