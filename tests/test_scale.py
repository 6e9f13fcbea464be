"""The simulation of machines agrees with queueing theory where theory has a formula."""

import itertools
from dataclasses import replace

import pytest

from benchmarks.clock import Spent
from benchmarks.hosts import Balance, Host, Slot, at_random, fewer_of_two, figures, simulate
from benchmarks.scale import Measured, Pair, Traffic, compare, lived, steady
from engine.cost import CostModel
from engine.planner import BatchPlanner

SECONDS = 0.01
ONE_BY_ONE = Host(
    BatchPlanner(CostModel(run=0.0, row=0.0, token=SECONDS / 100, token_length=0.0), token_budget=100),
    lanes=1,
    threads=1,
    cores=1,
    lengths=[100],
    shares=[1.0],
)
"""Rows of one length that fill a batch each: every row takes `SECONDS`."""


def mean_latency(load: float, hosts: int = 1, balance: Balance = lambda servers: servers[0]) -> float:
    due = Traffic(rate=load * hosts / SECONDS).due(60.0 / hosts)
    answers = simulate(ONE_BY_ONE, due, hosts, balance).answers
    assert len(answers) == len(due)
    return sum(latency for _, latency in answers) / len(answers)


def closed_loop(host: Host, callers: int) -> tuple[float, float]:
    """Requests/s and p99 in seconds."""
    return figures(Traffic(callers=callers).simulated(host, 11.0).answers, 1.0, 10.0)


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_one_lane_waits_as_long_as_the_formula_of_pollaczek_and_khinchine_says(load: float) -> None:
    assert mean_latency(load) == pytest.approx(SECONDS * (1 + load / 2 / (1 - load)), rel=0.1)


def test_a_host_drawn_at_random_is_as_slow_as_one_host_and_the_better_of_two_is_faster() -> None:
    alone = mean_latency(0.7)
    assert mean_latency(0.7, 10, at_random()) == pytest.approx(alone, rel=0.1)
    assert mean_latency(0.7, 10, fewer_of_two()) < 0.85 * alone


def test_a_closed_loop_reaches_the_rate_of_the_lane_and_every_caller_waits_for_the_others() -> None:
    rate, p99_s = closed_loop(ONE_BY_ONE, callers=16)
    assert rate == pytest.approx(1 / SECONDS, rel=0.01)
    assert p99_s == pytest.approx(16 * SECONDS, rel=0.1)


def test_rows_that_stop_early_make_a_batch_shorter() -> None:
    host = replace(ONE_BY_ONE, lengths=[100, 100], shares=[1.0, 0.5])
    assert host.predicted_s([0, 1]) == pytest.approx(2 * SECONDS * 0.75)


def test_batches_that_vary_make_the_longest_latencies_longer() -> None:
    """With half of the batches 1.5 times as long and half 0.5 times the rate is the same, and by the formula
    of Pollaczek and Khinchine the mean wait 1.25 times as long."""
    due = Traffic(rate=0.7 / SECONDS).due(200.0)
    even, uneven = (
        sorted(latency for _, latency in simulate(replace(ONE_BY_ONE, ratios=ratios), due).answers)
        for ratios in ([1.0], [0.5, 1.5])
    )
    waits = [sum(latencies) / len(latencies) - SECONDS for latencies in (even, uneven)]
    assert waits[1] / waits[0] == pytest.approx(1.25, rel=0.1)
    assert uneven[int(0.99 * len(due))] > 1.1 * even[int(0.99 * len(due))]


def test_http_takes_its_time_from_the_lanes_of_a_busy_machine() -> None:
    """Saturation: the cores do the lanes' work and HTTP's, and nothing else."""
    http_s = SECONDS / 4
    rate, _ = closed_loop(replace(ONE_BY_ONE, http_s=http_s), callers=16)
    assert rate == pytest.approx(1 / (SECONDS + http_s), rel=0.01)
    two_cores = replace(ONE_BY_ONE, lanes=2, cores=2, http_s=http_s)
    assert closed_loop(two_cores, callers=16)[0] == pytest.approx(2 / (SECONDS + http_s), rel=0.01)


def test_with_a_core_of_its_own_http_slows_no_lane_but_is_part_of_the_latency() -> None:
    host = replace(ONE_BY_ONE, cores=2, http_s=SECONDS / 4)
    assert closed_loop(host, callers=16)[0] == pytest.approx(1 / SECONDS, rel=0.01)
    ((_, latency),) = simulate(host, [0.0]).answers
    assert latency == pytest.approx(SECONDS + host.http_s)


def test_while_http_waits_for_a_core_the_lanes_have_it() -> None:
    waits = replace(ONE_BY_ONE, http_s=SECONDS / 4, http_wait_s=SECONDS / 4)
    assert closed_loop(waits, callers=16)[0] == pytest.approx(1 / (SECONDS + waits.http_s), rel=0.02)
    ((_, latency),) = simulate(waits, [0.0]).answers
    assert latency == pytest.approx(SECONDS + waits.http_s + waits.http_wait_s)


def test_http_answers_one_request_at_a_time() -> None:
    host = replace(ONE_BY_ONE, lanes=8, cores=8, http_s=SECONDS / 2)
    assert closed_loop(host, callers=32)[0] == pytest.approx(2 / SECONDS, rel=0.01)


def test_a_lane_hands_over_before_its_next_batch() -> None:
    host = replace(ONE_BY_ONE, turn_s=SECONDS / 4)
    assert closed_loop(host, callers=16)[0] == pytest.approx(1 / (SECONDS + host.turn_s), rel=0.01)
    assert simulate(host, [0.0]).lanes_s == pytest.approx(SECONDS)


def test_cores_that_the_hypervisor_takes_away_are_lost_to_what_runs() -> None:
    """A row of 10 ms begins at 0. From 2 ms to 6 ms its core is away, then for 2 ms half of it."""
    slots = [Slot(0.002), Slot(0.006, stolen=1.0), Slot(0.008, stolen=0.5), Slot(1.0)]
    ((_, latency),) = simulate(ONE_BY_ONE, [0.0], slots=[slots]).answers
    assert latency == pytest.approx(SECONDS + 0.004 + 0.001)
    ((_, later),) = simulate(ONE_BY_ONE, [0.5], slots=[slots]).answers
    assert later == pytest.approx(SECONDS)


def test_a_slow_time_makes_batches_and_http_longer() -> None:
    slow = [Slot(1.0, speed=0.5), Slot(2.0, speed=2.0)]
    host = replace(ONE_BY_ONE, cores=2, http_s=SECONDS / 2)
    for due, factor in ((0.0, 2.0), (1.5, 0.5), (3.0, 1.0)):
        ((_, latency),) = simulate(host, [due], slots=[slow]).answers
        assert latency == pytest.approx(factor * (SECONDS + host.http_s))


def test_the_hosts_of_a_fleet_live_through_different_times() -> None:
    lives = [[Slot(9.0, speed=0.5)], [Slot(9.0)]]
    turns = itertools.cycle(range(2))
    answers = simulate(
        ONE_BY_ONE, [0.0, 1.0], hosts=2, balance=lambda servers: servers[next(turns)], slots=lives
    ).answers
    assert [latency for _, latency in answers] == pytest.approx([2 * SECONDS, SECONDS])


def test_the_speed_of_each_moment_is_work_over_cpu_time() -> None:
    """Each row takes 10 ms of CPU time in the first second and 20 ms in the second one, where a row out of
    two has waited long. Nothing is stolen."""
    due = [0.1 * place for place in range(20)]
    simulated = simulate(ONE_BY_ONE, due)
    answers = {
        place: (at + waited, waited)
        for place, at in enumerate(due)
        for waited in [SECONDS if at < 1 else 2 * SECONDS + 0.05 * (place % 2)]
    }
    nothing = Spent(0.0, 0.0)
    real = Measured(
        answers,
        nothing,
        nothing,
        nothing,
        turn_s=0.0,
        others=0.0,
        stolen=[(0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (2.0, 0.0)],
        lanes_s=[(1.0, 10 * SECONDS), (2.0, 20 * SECONDS)],
    )
    slots = lived(real, ONE_BY_ONE, simulated.batches)
    assert [slot.end_s for slot in slots] == [0.5, 1.0, 1.5, 2.0]
    assert [slot.speed for slot in slots] == pytest.approx([1.5, 1.5, 0.75, 0.75])


def test_speeds_repeat_without_what_was_stolen() -> None:
    slots = steady([Slot(1.0, stolen=1.0, speed=0.5), Slot(2.0, speed=1.5)], seconds=3.0)
    assert [slot.end_s for slot in slots] == [1.0, 2.0, 3.0, 4.0]
    assert [slot.speed for slot in slots] == [0.5, 1.5, 0.5, 1.5]
    assert not any(slot.stolen for slot in slots)


def test_lanes_with_more_threads_than_cores_share_the_cores() -> None:
    host = replace(ONE_BY_ONE, lanes=4, cores=2)
    assert closed_loop(host, callers=16)[0] == pytest.approx(2 / SECONDS, rel=0.01)


def test_the_verdict_is_on_the_median_of_the_ratios_of_the_rounds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The machine's speed moves between rounds, and then both figures move together."""
    rounds = [(50.0, 0.1, 51.0, 0.11), (100.0, 0.05, 101.0, 0.055), (80.0, 0.1, 40.0, 0.3)]
    spent = Spent(cpu_s=0.001, wait_s=0.0005)
    pairs = [
        Pair(*one, spent, spent, more=1.0, ratios=(1.0,), turn_s=0.001, slots=(), others=0.01, stolen=0.0)
        for one in rounds
    ]
    assert list(compare({"16 callers": pairs}).values()) == [True]
    assert "1.01" in capsys.readouterr().out
    assert list(compare({"16 callers": pairs[2:]}).values()) == [False]
