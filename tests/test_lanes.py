"""How rows are grouped by length and how many cores are used."""

import os
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cores import available_cores
from engine.planner import TOKEN_BUDGET, cut_sorted
from engine.split import MOST_COPIES, Split, possible_splits

ROW_LENGTHS = st.lists(st.integers(1, 300), max_size=60).map(sorted)
BUDGETS = st.integers(1, 1200)


def fits(lengths: list[int], batch: range, budget: int) -> bool:
    return max(lengths[index] for index in batch) * len(batch) <= budget


@given(lengths=ROW_LENGTHS, budget=BUDGETS)
@settings(max_examples=200, deadline=None)
def test_a_cut_covers_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = cut_sorted(lengths, budget)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert [batch for batch in batches if len(batch) > 1 and not fits(lengths, batch, budget)] == []
    assert all(batches)


def test_nothing_is_cut_into_nothing() -> None:
    assert cut_sorted([]) == []


def test_the_longest_rows_come_first() -> None:
    assert cut_sorted([10, 20, 30, 40], 80) == [range(2, 4), range(2)]


def test_the_budget_is_that_of_the_project_unless_told_otherwise() -> None:
    assert cut_sorted([1] * 2 * TOKEN_BUDGET) == [range(TOKEN_BUDGET, 2 * TOKEN_BUDGET), range(TOKEN_BUDGET)]


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 8, 12, 48, 64, 192])
def test_splits_use_the_cores_once_and_hold_few_copies(cores: int) -> None:
    splits = possible_splits("cpu", cores)
    assert splits[0] == Split(cores, 1), "a lane a core: where nothing is clearly better, this"
    assert Split(1, cores) in splits
    assert len(splits) == len(set(splits))
    assert [split for split in splits if split.lanes * split.threads > cores] == []
    assert max(split.copies for split in splits) <= MOST_COPIES


@pytest.mark.parametrize(
    ("lanes", "threads", "expected"),
    [(3, None, Split(3, 2)), (None, 4, Split(2, 4)), (5, 7, Split(5, 7)), (20, None, Split(20, 1))],
)
def test_lanes_or_threads_given_leave_one_way(
    lanes: int | None, threads: int | None, expected: Split
) -> None:
    assert possible_splits("cpu", 8, lanes, threads) == [expected]


def test_there_is_always_a_core() -> None:
    assert available_cores() >= 1


def test_a_process_bound_to_one_core_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert available_cores() == 1


@pytest.mark.parametrize(
    ("bound_to", "quota", "cores"),
    [
        pytest.param(8, None, 8, id="no quota"),
        pytest.param(8, 2.0, 2, id="quota below the affinity"),
        pytest.param(2, 8.0, 2, id="affinity below the quota"),
        pytest.param(8, 1.5, 2, id="part of a core counts as one"),
        pytest.param(8, 0.1, 1, id="never none"),
    ],
)
def test_cores_are_the_affinity_capped_by_the_quota(
    monkeypatch: pytest.MonkeyPatch, bound_to: int, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound_to)), raising=False)
    monkeypatch.setattr("engine.cores._cgroup_quota", lambda: quota)
    assert available_cores() == cores
