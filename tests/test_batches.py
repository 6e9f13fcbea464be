"""Which rows go together: the batch with the most work a second, and on the whole nothing a search over all
sizes would do better."""

from functools import cache
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ablation_server import IN_ARRIVAL_ORDER, SORTED, ChooseBatch
from benchmarks.simulation import CROWDS, Machine, simulate
from engine.cost import CostModel, Timing
from engine.planner import CROWD, LEFT_OUT, NEAR, BatchPlanner

CPU = CostModel(run=4e-3, row=3e-4, token=2.6e-4, token_length=4e-7, above=((256, 3e-5),))
"""Two cores' lane with the default ensemble, as measured: starting is cheap, large batches cost more a
token."""

GPU = CostModel(run=6e-3, row=2e-6, token=0.0, token_length=1e-10, above=((4096, 1.5e-6),))
"""Up to four thousand tokens cost next to nothing beside the start of their run."""

LENGTHS = st.lists(st.integers(5, 300), min_size=1, max_size=60).map(sorted)


@given(
    data=st.data(),
    lengths=st.lists(st.integers(5, 300), min_size=1, max_size=NEAR).map(sorted),
    budget=st.integers(1, 3000),
    free_lanes=st.integers(1, 4),
    cost=st.sampled_from([CPU, GPU]),
)
@settings(max_examples=200, deadline=None)
def test_no_batch_around_the_anchor_does_more_work_a_second(
    data: st.DataObject, lengths: list[int], budget: int, free_lanes: int, cost: CostModel
) -> None:
    planner = BatchPlanner(cost, budget)
    anchor = data.draw(st.integers(0, len(lengths) - 1))
    waited = data.draw(st.none() | st.lists(st.floats(0, 60), min_size=len(lengths), max_size=len(lengths)))
    share = -(-len(lengths) // free_lanes)

    def may(batch: range) -> bool:
        return len(batch) == 1 or (len(batch) * lengths[batch[-1]] <= budget and len(batch) <= share)

    def seconds(batch: range) -> float:
        return float(cost.seconds(len(batch), lengths[batch[-1]]))

    @cache
    def least(start: int, stop: int) -> float:
        """Of all ways to cut these rows."""
        firsts = (range(start, end) for end in range(start + 1, stop + 1))
        return min((seconds(first) + least(first.stop, stop) for first in firsts if may(first)), default=0.0)

    def gain(batch: range) -> float:
        off = least(0, len(lengths)) - least(0, batch.start) - least(batch.stop, len(lengths))
        works = {row: planner.work(lengths[row]) for row in batch}
        aged = sum(work * waited[row] / max(*waited, 1e-9) for row, work in works.items()) if waited else 0.0
        worth = LEFT_OUT * off + (1 - LEFT_OUT) * sum(works.values())
        return (len(lengths) / CROWD * worth + aged) / seconds(batch)

    batch = planner.choose(lengths, anchor, free_lanes, waited)
    assert anchor in batch
    assert may(batch)
    others = [range(low, high) for low in range(anchor + 1) for high in range(anchor + 1, len(lengths) + 1)]
    assert gain(batch) >= max(gain(other) for other in others if may(other)) - 1e-6


@given(
    data=st.data(),
    budget=st.integers(1, 40_000),
    free_lanes=st.integers(1, 9),
    cost=st.sampled_from([CPU, GPU]),
)
@settings(max_examples=200, deadline=None)
def test_a_batch_of_a_long_queue_has_the_anchor_and_fits(
    data: st.DataObject, budget: int, free_lanes: int, cost: CostModel
) -> None:
    lengths = sorted(data.draw(st.lists(st.integers(5, 300), min_size=40, max_size=400)))
    anchor = data.draw(st.integers(0, len(lengths) - 1))
    with np.errstate(all="raise"):
        batch = BatchPlanner(cost, budget).choose(lengths, anchor, free_lanes, [1.0] * len(lengths))
    assert anchor in batch
    assert len(batch) == 1 or (
        len(batch) * lengths[batch[-1]] <= budget and len(batch) <= -(-len(lengths) // free_lanes)
    )


def test_no_row_is_left_behind_that_fits_nowhere_else() -> None:
    planner = BatchPlanner(CostModel(run=4e-3, row=0.0, token=1e-4, token_length=0.0), 120)
    assert planner.choose([40] * 5, 2) in (range(3), range(2, 5)), (
        "not the three in the middle, after which two must go alone"
    )
    assert planner.choose([30, 30, 30, 30, 60], 3) == range(4), "not the two of the longest"


def test_among_many_hundreds_a_batch_is_nearly_the_best_though_not_every_end_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cost = CostModel(run=6e-3, row=2e-6, token=1e-7, token_length=1e-10)  # the more the better
    lengths = sorted(
        np.clip(np.random.default_rng(0).lognormal(4.15, 0.4, 900), 25, 250).astype(int).tolist()
    )
    planner = BatchPlanner(cost, 32_768)

    def work_a_second(batch: range) -> float:
        return sum(planner.work(lengths[row]) for row in batch) / float(
            cost.seconds(len(batch), lengths[batch[-1]])
        )

    batch = planner.choose(lengths, 500)
    monkeypatch.setattr("engine.planner.STEPS", list(range(len(lengths) + 1)))
    best = planner.choose(lengths, 500)
    assert len(batch) > 200
    assert work_a_second(batch) >= 0.99 * work_a_second(best)


def test_who_has_waited_goes_along_before_who_has_just_come() -> None:
    # two of these rows are best, not three
    cost = CostModel(run=4e-3, row=0.0, token=2.5e-4, token_length=0.0, above=((100, 2e-4),))
    planner = BatchPlanner(cost, 1000)
    assert planner.choose([50, 50, 50], 1, waited=[0.0, 1.0, 0.9]) == range(1, 3)
    assert planner.choose([50, 50, 50], 1, waited=[0.9, 1.0, 0.0]) == range(2)


@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_however_many_wait_the_old_ones_go_first_though_the_young_would_be_a_little_more_work_a_second(
    rows: int,
) -> None:
    lengths, waited = [50] * rows + [51] + [60] * rows, [0.0] * rows + [1.0] * (rows + 1)
    assert BatchPlanner(CPU, 512).choose(lengths, rows, waited=waited) == range(rows, rows + 5)


def test_where_batches_gain_nothing_rows_go_alone() -> None:
    assert BatchPlanner(CostModel(run=0.0, row=1e-3, token=0.0, token_length=0.0), 1000).choose(
        [50] * 8, 3
    ) == range(3, 4)


def test_the_simulation_serves_every_caller_and_a_lone_one_at_the_price_of_its_row() -> None:
    machine, lengths = Machine("two lanes", 2, CPU, 512), [40, 40, 160]
    alone = simulate(2, machine.seconds, BatchPlanner(CPU, 512).choose, lengths, callers=1, answers=300)
    assert sorted(set(np.round(alone.latencies, 9))) == pytest.approx(
        [machine.seconds(1, length) for length in (40, 160)]
    )
    for crowd in CROWDS.values():
        crowded = simulate(
            2, machine.seconds, BatchPlanner(CPU, 512, crowd).choose, lengths, callers=16, answers=300
        )
        assert crowded.rows_per_s > 1.5 * alone.rows_per_s, "two lanes do nearly twice as much"
        assert crowded.latencies[-1] < 1, "nobody starves"


@pytest.mark.parametrize(
    "choose", (IN_ARRIVAL_ORDER | SORTED).values(), ids=(IN_ARRIVAL_ORDER | SORTED).keys()
)
def test_the_ways_of_the_ablation_choose_a_batch_with_the_anchor(choose: ChooseBatch) -> None:
    lengths = [20, 30, 40, 50] * 5
    for anchor in range(len(lengths)):
        batch = choose(BatchPlanner(CPU, 1000), lengths, anchor, 2, [0.1] * len(lengths))
        assert anchor in batch
        assert batch.stop <= len(lengths)


@given(lengths=LENGTHS, budget=st.integers(1, 3000))
@settings(max_examples=100, deadline=None)
def test_a_cut_covers_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = BatchPlanner(CPU, budget).cut(lengths)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert [batch for batch in batches if len(batch) > 1 and len(batch) * lengths[batch[-1]] > budget] == []


def test_a_short_row_is_not_padded_to_a_long_one_on_a_cpu_but_on_a_gpu() -> None:
    lengths = [20, 21, 22, 200]
    assert BatchPlanner(CPU, 1000).choose(lengths, 0) == range(3)
    assert BatchPlanner(CPU, 1000).choose(lengths, 3) == range(3, 4)
    assert BatchPlanner(GPU, 1000).choose(lengths, 0) == range(4), "there the start of a run is what costs"


def test_free_lanes_share_what_waits() -> None:
    assert BatchPlanner(GPU, 10_000).choose([50] * 8, 0, free_lanes=2) == range(4)


@pytest.mark.parametrize("true", [CPU, GPU])
def test_a_fit_finds_the_cost_behind_noisy_timings(true: CostModel) -> None:
    noise = np.random.default_rng(0)
    shapes = [(rows, length) for length in (32, 96, 256) for rows in (1, 2, 4, 8, 16, 32, 64)]
    timings = [
        Timing(rows, length, float(true.seconds(rows, length)) * noise.uniform(0.98, 1.02))
        for rows, length in shapes
    ]
    fitted = CostModel.fit(timings)
    assert fitted.error(timings) < 0.03
    assert fitted.seconds(6, 64) == pytest.approx(true.seconds(6, 64), rel=0.05), "a shape that was not timed"


def test_more_work_never_costs_less() -> None:
    timings = [Timing(1, 32, 0.02), Timing(2, 32, 0.018), Timing(4, 32, 0.021), Timing(1, 96, 0.019)]
    cost = CostModel.fit(timings)
    grid = cost.seconds(np.arange(1, 50)[:, None], np.arange(1, 300)[None, :])
    assert (np.diff(grid, axis=0) >= 0).all()
    assert (np.diff(grid, axis=1) >= 0).all()
