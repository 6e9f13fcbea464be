"""How rows are grouped by length and how many cores are used."""

import os
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import lanes
from models.lanes import TOKEN_BUDGET, available_cores, cut_sorted, grow_batch

ROW_LENGTHS = st.lists(st.integers(1, 300), max_size=60).map(sorted)
BUDGETS = st.integers(1, 1200)


def fits(lengths: list[int], batch: range, budget: int) -> bool:
    return max(lengths[index] for index in batch) * len(batch) <= budget


@given(data=st.data(), lengths=ROW_LENGTHS.filter(bool), budget=BUDGETS)
@settings(max_examples=200, deadline=None)
def test_a_batch_grows_around_its_anchor_as_far_as_the_budget_goes(data: st.DataObject, lengths: list[int], budget: int) -> None:
    anchor = data.draw(st.integers(0, len(lengths) - 1))
    batch = grow_batch(lengths, anchor, budget)
    assert anchor in batch
    assert batch.step == 1
    assert 0 <= batch.start < batch.stop <= len(lengths)
    assert len(batch) == 1 or fits(lengths, batch, budget)
    assert batch.start == 0 or not fits(lengths, range(batch.start - 1, batch.stop), budget)
    assert batch.stop == len(lengths) or not fits(lengths, range(batch.start, batch.stop + 1), budget)


@pytest.mark.parametrize(
    ("lengths", "anchor", "budget", "expected"),
    [
        pytest.param([20], 0, 512, range(1), id="alone"),
        pytest.param([20, 20, 20], 1, 60, range(3), id="all alike"),
        pytest.param([20, 20, 20], 1, 59, range(1, 3), id="one too many"),
        pytest.param([10, 50, 51, 90], 1, 102, range(1, 3), id="nearest is longer"),
        pytest.param([49, 50, 90], 1, 180, range(2), id="nearest is shorter"),
        pytest.param([10, 49, 50, 90], 2, 99, range(2, 3), id="a pair does not fit"),
        pytest.param([10, 49, 50, 90], 2, 360, range(4), id="everything fits"),
        pytest.param([10, 600, 600], 1, 512, range(1, 2), id="longer than the budget"),
        pytest.param([10, 20, 600], 0, 512, range(2), id="a longer one beside it stays out"),
        pytest.param([5, 5, 5, 200], 3, 400, range(2, 4), id="shorter rows padded rather than a place left empty"),
    ],
)
def test_a_batch_takes_the_rows_of_the_nearest_lengths(lengths: list[int], anchor: int, budget: int, expected: range) -> None:
    assert grow_batch(lengths, anchor, budget) == expected


def test_the_budget_is_that_of_the_project_unless_told_otherwise() -> None:
    assert len(grow_batch([1] * 2 * TOKEN_BUDGET, 0)) == TOKEN_BUDGET
    assert cut_sorted([1] * 2 * TOKEN_BUDGET) == [range(TOKEN_BUDGET, 2 * TOKEN_BUDGET), range(TOKEN_BUDGET)]


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
    monkeypatch.setattr(lanes, "_cgroup_quota", lambda: quota)
    assert available_cores() == cores
