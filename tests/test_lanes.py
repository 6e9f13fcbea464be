"""How rows of a file are cut into batches, and how the cores are split into lanes."""

import os
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cores import available_cores
from engine.planner import TOKEN_BUDGET, cut_sorted
from engine.split import MOST_COPIES, Split, possible_splits

ROW_LENGTHS = st.lists(st.integers(1, 300), max_size=60).map(sorted)
BUDGETS = st.integers(1, 1200)


def tokens(lengths: list[int], batch: range) -> int:
    """Tokens of a batch with its padding: all rows are as long as the longest."""
    return max(lengths[index] for index in batch) * len(batch)


@given(lengths=ROW_LENGTHS, budget=BUDGETS)
@settings(max_examples=200, deadline=None)
def test_a_cut_covers_every_row_once(lengths: list[int], budget: int) -> None:
    batches = cut_sorted(lengths, budget)
    assert list(chain.from_iterable(reversed(batches))) == list(range(len(lengths)))
    assert all(batches), "a batch has at least one row"


@given(lengths=ROW_LENGTHS, budget=BUDGETS)
@settings(max_examples=200, deadline=None)
def test_each_batch_of_a_cut_takes_as_many_rows_as_the_budget_holds(lengths: list[int], budget: int) -> None:
    for batch in cut_sorted(lengths, budget):
        assert len(batch) == 1 or tokens(lengths, batch) <= budget
        if batch.start > 0:
            one_more = range(batch.start - 1, batch.stop)
            assert tokens(lengths, one_more) > budget, "the next shorter row would fit too"


def test_no_rows_give_no_batches() -> None:
    assert cut_sorted([]) == []


def test_the_longest_rows_are_first() -> None:
    assert cut_sorted([10, 20, 30, 40], 80) == [range(2, 4), range(2)]


def test_the_default_budget_is_the_projects() -> None:
    assert cut_sorted([1] * 2 * TOKEN_BUDGET) == [range(TOKEN_BUDGET, 2 * TOKEN_BUDGET), range(TOKEN_BUDGET)]


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 8, 12, 48, 64, 192])
def test_splits_fit_the_cores_and_hold_few_copies(cores: int) -> None:
    splits = possible_splits("cpu", cores)
    assert splits[0] == Split(cores, 1), "a lane for each core is the choice when nothing is clearly better"
    assert Split(1, cores) in splits
    assert len(splits) == len(set(splits))
    assert [split for split in splits if split.lanes * split.threads > cores] == []
    assert max(split.copies for split in splits) <= MOST_COPIES


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [Split(1, 1)]),
        (2, [Split(2, 1), Split(1, 2)]),
        (6, [Split(6, 1), Split(3, 2), Split(1, 4), Split(1, 6)]),
        (8, [Split(8, 1), Split(4, 2), Split(2, 4), Split(1, 8)]),
        (48, [Split(48, 1), Split(3, 16), Split(1, 32), Split(1, 48)]),
    ],
)
def test_threads_for_each_lane_are_powers_of_two_or_all_cores(cores: int, expected: list[Split]) -> None:
    assert possible_splits("cpu", cores) == expected


@pytest.mark.parametrize(
    ("lanes", "threads", "expected"),
    [(3, None, Split(3, 2)), (None, 4, Split(2, 4)), (5, 7, Split(5, 7)), (20, None, Split(20, 1))],
)
def test_given_lanes_or_threads_leave_one_split(
    lanes: int | None, threads: int | None, expected: Split
) -> None:
    assert possible_splits("cpu", 8, lanes, threads) == [expected]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this process see an affinity and the files with which Linux describes a cgroup."""
    read_text = Path.read_text

    def see(bound_to: int, files: dict[str, str]) -> None:
        def read(path: Path, *arguments: Any, **options: Any) -> str:
            if not str(path).startswith(("/proc/", "/sys/")):
                return read_text(path, *arguments, **options)
            if str(path) not in files:
                raise FileNotFoundError(path)
            return files[str(path)]

        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound_to)), raising=False)
        monkeypatch.setattr(Path, "read_text", read)

    return see


OWN = {"/proc/self/cgroup": "0::/pod/container\n"}


@pytest.mark.parametrize(
    ("bound_to", "files", "cores"),
    [
        pytest.param(8, {}, 8, id="no cgroup"),
        pytest.param(1, {}, 1, id="bound to one core"),
        pytest.param(8, {"/sys/fs/cgroup/cpu.max": "max 100000"}, 8, id="no quota"),
        pytest.param(8, {"/sys/fs/cgroup/cpu.max": "200000 100000"}, 2, id="quota below the affinity"),
        pytest.param(2, {"/sys/fs/cgroup/cpu.max": "800000 100000"}, 2, id="affinity below the quota"),
        pytest.param(8, {"/sys/fs/cgroup/cpu.max": "150000 100000"}, 2, id="part of a core counts as one"),
        pytest.param(8, {"/sys/fs/cgroup/cpu.max": "10000 100000"}, 1, id="at least one"),
        pytest.param(
            8, {**OWN, "/sys/fs/cgroup/pod/container/cpu.max": "300000 100000"}, 3, id="its own cgroup"
        ),
        pytest.param(
            8,
            {
                **OWN,
                "/sys/fs/cgroup/pod/container/cpu.max": "600000 100000",
                "/sys/fs/cgroup/pod/cpu.max": "200000 100000",
            },
            2,
            id="the tightest on the way to the root",
        ),
        pytest.param(
            8,
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
            id="version 1",
        ),
        pytest.param(
            8,
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="version 1 without a quota",
        ),
    ],
)
def test_cores_are_the_affinity_capped_by_the_quota(
    machine: Any, bound_to: int, files: dict[str, str], cores: int
) -> None:
    machine(bound_to, files)
    assert available_cores() == cores


def test_cores_are_capped_by_the_given_number(machine: Any) -> None:
    machine(8, {})
    assert available_cores(most=3) == 3
    assert available_cores(most=9) == 8
