"""Lanes and batches are chosen by measurement. Formulas replace machines, so that an exhaustive search can
tell the best choice; a real ensemble is then loaded as chosen."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from manifests import rewrite

from benchmarks.simulation import Choose, in_batches_of, simulate
from engine.measuring import LONGEST_BATCH_S, MOST_TOKENS, Seconds, fastest, measure
from engine.split import Split, possible_splits
from engine.tuning import tune
from models.bundle import Bundle

Cost = Callable[[Split, float, float], float]


def two_cores(split: Split, rows: float, length: float) -> float:
    """Two cores with the default ensemble, as timed: a lane of two threads is 1.6 times as fast as one of one
    thread."""
    tokens = rows * length
    return (4e-3 + 3e-4 * rows + 2.6e-4 * tokens + 4e-7 * tokens * length + 6e-8 * tokens**2) / {
        1: 1.0,
        2: 1.6,
    }[split.threads]


def many_cores_one_memory(split: Split, rows: float, length: float) -> float:
    """Eight cores and members too large for their caches: every run reads all weights, and lanes share the
    memory's bandwidth."""
    tokens = rows * length
    return 2e-2 * split.lanes + 2e-3 * tokens / split.threads**0.9


def gpu(split: Split, rows: float, length: float) -> float:
    """A batch costs the same until the machine is full, then by the token; a second lane prepares its batch
    meanwhile."""
    prepare_s, compute_s = 2e-3 + 5e-6 * rows, max(4e-3, 1.5e-6 * rows * length)
    return max(prepare_s + compute_s, split.lanes * compute_s)


def simulated(
    cost: Cost, noise: np.random.Generator | None = None
) -> Callable[[Split], "contextmanager[Seconds]"]:
    """A machine whose batches take as long as a formula says, and up to a tenth longer with `noise`."""

    @contextmanager
    def machine(split: Split) -> Iterator[Seconds]:
        yield (
            lambda rows, length: cost(split, rows, length) * (1 + (noise.exponential(0.03) if noise else 0.0))
        )

    return machine  # type: ignore[return-value]


def rows_per_s(cost: Cost, split: Split, callers: int, choose: Choose) -> float:
    # KLUE-RE's: median 63
    lengths = np.clip(np.random.default_rng(callers).lognormal(4.15, 0.4, 3000), 25, 250).astype(int).tolist()
    return simulate(
        split.lanes, lambda rows, length: cost(split, rows, length), choose, lengths, callers, answers=3000
    ).rows_per_s


TWO_CORES = (two_cores, possible_splits("cpu", 2))
EIGHT_CORES = (many_cores_one_memory, possible_splits("cpu", 8))
GPU = (gpu, possible_splits("cuda", 8))


@pytest.mark.parametrize(
    ("cost", "splits", "callers"),
    [
        pytest.param(*TWO_CORES, 16, id="two cores, 16 callers"),
        pytest.param(*TWO_CORES, 64, id="two cores, 64 callers"),
        pytest.param(*TWO_CORES, 600, id="two cores, 600 callers"),
        pytest.param(*EIGHT_CORES, 16, id="eight cores and one memory, 16 callers"),
        pytest.param(*EIGHT_CORES, 64, id="eight cores and one memory, 64 callers"),
        pytest.param(*EIGHT_CORES, 600, id="eight cores and one memory, 600 callers", marks=pytest.mark.slow),
        pytest.param(*GPU, 16, id="a GPU, 16 callers"),
        pytest.param(*GPU, 64, id="a GPU, 64 callers"),
        pytest.param(*GPU, 600, id="a GPU, 600 callers"),
    ],
)
def test_lanes_and_batches_are_within_5_percent_of_an_exhaustive_search(
    cost: Cost, splits: list[Split], callers: int
) -> None:
    tried = measure(simulated(cost, np.random.default_rng(callers)), splits, window=256, tuning_s=7)
    chosen = fastest(list(tried.values()))
    ours = rows_per_s(cost, chosen.split, callers, chosen.planner.choose)
    sizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512]
    # lanes are chosen for a busy machine
    others = product(splits if callers == 600 else [chosen.split], sizes)
    best = max(
        rows_per_s(cost, split, callers, in_batches_of(size, tried[split].token_budget))
        for split, size in others
    )
    assert ours >= 0.95 * best, f"{chosen.split} at {ours:.1f} rows/s, the best of all {best:.1f}"


@pytest.mark.parametrize(("cost", "split"), [(two_cores, Split(2, 1)), (gpu, Split(1, 1))])
def test_a_file_is_cut_into_batches_that_cost_no_more_than_any_fixed_size(cost: Cost, split: Split) -> None:
    lengths = sorted(
        np.clip(np.random.default_rng(0).lognormal(4.15, 0.4, 2000), 25, 250).astype(int).tolist()
    )
    (measured,) = measure(simulated(cost), [split], window=256, tuning_s=7).values()

    def seconds(batches: list[range]) -> float:
        return sum(cost(split, len(batch), lengths[batch[-1]]) for batch in batches)

    def fixed(size: int) -> list[range]:
        return [range(start, min(start + size, len(lengths))) for start in range(0, len(lengths), size)]

    assert seconds(measured.planner.cut(lengths)) <= 1.01 * min(
        seconds(fixed(size)) for size in range(1, 129)
    )


def test_a_gpu_gets_large_batches_and_a_cpu_small_ones() -> None:
    def batch(cost: Cost, split: Split) -> int:
        return len(
            measure(simulated(cost), [split], window=256, tuning_s=7)[split].planner.choose([64] * 512, 0)
        )

    assert batch(two_cores, Split(2, 1)) <= 8
    assert batch(gpu, Split(1, 1)) >= 64


def test_no_batch_is_measured_that_occupies_a_lane_for_long() -> None:
    (measured,) = measure(simulated(two_cores), [Split(2, 1)], window=512, tuning_s=7).values()
    assert max(timing.seconds for timing in measured.timings if timing.rows > 1) <= 1.3 * LONGEST_BATCH_S
    assert two_cores(measured.split, 1, measured.token_budget) < 2 * LONGEST_BATCH_S


def test_a_token_budget_given_is_kept() -> None:
    (measured,) = measure(simulated(gpu), [Split(1, 1)], window=256, tuning_s=7, token_budget=300).values()
    assert measured.token_budget == 300
    assert measured.planner.choose([100] * 9, 0) == range(3)


def test_without_a_clear_winner_the_first_split_stays() -> None:
    timings = measure(
        simulated(lambda split, rows, length: 1e-3 * rows * split.lanes),
        [Split(2, 1), Split(1, 2)],
        window=64,
        tuning_s=7,
    )
    assert fastest(list(timings.values())).split == Split(2, 1)


def test_a_fast_moment_of_the_machine_does_not_choose_the_lanes() -> None:
    """Other processes slow the machine down all the time, except while the second split is measured in the
    first round."""
    loaded: list[Split] = []

    @contextmanager
    def machine(split: Split) -> Iterator[Seconds]:
        loaded.append(split)
        slow = 1.0 if len(loaded) == 2 else 1.4
        yield lambda rows, length: slow * two_cores(split, rows, length)

    splits = [Split(2, 1), Split(1, 2)]
    tried = measure(machine, splits, window=256, tuning_s=7)
    assert tried[Split(1, 2)].rows_per_s > 1.05 * tried[Split(2, 1)].rows_per_s, "the shortest times mislead"
    assert fastest(list(tried.values())).split == Split(2, 1)


def test_a_split_that_is_faster_in_every_round_is_chosen() -> None:
    splits = [Split(2, 1), Split(1, 2)]
    tried = measure(
        simulated(lambda split, rows, length: split.lanes * two_cores(split, rows, length)),
        splits,
        window=256,
        tuning_s=7,
    )
    assert fastest(list(tried.values())).split == Split(1, 2)


def test_members_that_cost_twice_as_much_get_half_the_token_budget() -> None:
    (measured,) = measure(simulated(gpu), [Split(1, 1)], window=256, tuning_s=7).values()
    scaled = measured.scaled(2.0)
    assert scaled.token_budget == pytest.approx(measured.token_budget / 2)
    assert scaled.cost.seconds(4, 64) == pytest.approx(2 * measured.cost.seconds(4, 64))
    assert measured.scaled(2.0, token_budget=300).token_budget == 300
    assert measured.scaled(1e-3).token_budget == MOST_TOKENS


def test_a_real_ensemble_is_measured_and_works_on_every_lane(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    tuned = tune(bundle, "cpu", [Split(2, 2)], alone=Split(1, 2), tuning_s=0)
    assert tuned.measured.split == Split(2, 2)
    assert {measured.split for measured in tuned.tried} == {Split(2, 2), Split(1, 2)}
    tuned.lanes.ensemble.prove()
    for successor in (tuned.succeed(bundle), tuned.reload(bundle)):
        assert successor.measured.split == tuned.measured.split
        assert successor.lanes is not tuned.lanes


def test_a_reload_of_equal_graphs_keeps_the_measured_costs(tiny_bundle: Path, tmp_path: Path) -> None:
    tuned = tune(Bundle.open(tiny_bundle), "cpu", [Split(1, 1)], alone=None, tuning_s=0)
    renamed = Path(shutil.copytree(tiny_bundle, tmp_path / "renamed"))
    rewrite(renamed, lambda manifest: manifest.update(name="renamed"))
    assert tuned.succeed(Bundle.open(renamed)).measured is tuned.measured
