"""The simulation of machines agrees with queueing theory where theory has a formula."""

import pytest

from benchmarks.scale import Balance, Host, at_random, closed_loop, fewer_of_two, open_loop_times, simulate
from engine.cost import CostModel
from engine.planner import BatchPlanner

SECONDS = 0.01
ONE_BY_ONE = Host(
    BatchPlanner(CostModel(run=0.0, row=0.0, token=SECONDS / 100, token_length=0.0), token_budget=100),
    lanes=1,
    lengths=[100],
    shares=[1.0],
    factor=1.0,
    http_s=0.0,
)
"""Rows of one length that fill a batch each: every row takes `SECONDS`."""


def mean_latency(load: float, hosts: int = 1, balance: Balance = lambda queues: queues[0]) -> float:
    due = open_loop_times(load * hosts / SECONDS, 60.0 / hosts)
    answers = simulate(ONE_BY_ONE, due, hosts, balance)
    assert len(answers) == len(due)
    return sum(latency for _, latency in answers) / len(answers)


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_one_lane_waits_as_long_as_the_formula_of_pollaczek_and_khinchine_says(load: float) -> None:
    assert mean_latency(load) == pytest.approx(SECONDS * (1 + load / 2 / (1 - load)), rel=0.1)


def test_a_host_drawn_at_random_is_as_slow_as_one_host_and_the_better_of_two_is_faster() -> None:
    alone = mean_latency(0.7)
    assert mean_latency(0.7, 10, at_random()) == pytest.approx(alone, rel=0.1)
    assert mean_latency(0.7, 10, fewer_of_two()) < 0.85 * alone


def test_a_closed_loop_reaches_the_rate_of_the_lane_and_every_caller_waits_for_the_others() -> None:
    rate, p99_s = closed_loop(ONE_BY_ONE, callers=16, warmup_s=1.0, seconds=10.0)
    assert rate == pytest.approx(1 / SECONDS, rel=0.01)
    assert p99_s == pytest.approx(16 * SECONDS, rel=0.1)


def test_the_time_outside_the_lanes_and_rows_that_stop_early_count() -> None:
    host = Host(ONE_BY_ONE.planner, 1, [100, 100], [1.0, 0.5], factor=1.2, http_s=0.001)
    assert host.seconds([0, 1]) == pytest.approx(2 * SECONDS * 0.75 * 1.2 + 2 * 0.001)
