"""Ratios, speed-ups and times are as they are defined."""

import numpy as np
import pytest

from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.measure import TaskResult, measure_task
from meta_train.evaluate.running import MissingRunsError
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.scores import (
    final_loss_ratios,
    final_losses,
    horizons_needed,
    speedups,
    steps_to_reach,
    steps_to_stay,
    steps_to_targets,
)
from meta_train.evaluate.tuning import Grid, Tuned, rates_of
from meta_train.evaluate.ways import LONGEST, STRETCHES, reference_ways, without_dips
from tests.meta_train.evaluate.test_tuning import FakeRun


def curve(*losses, steps=None):
    steps = np.arange(len(losses)) * 10 if steps is None else np.asarray(steps)
    values = np.asarray(losses, float)
    return Curve(steps, values, values, values)


def test_ratios_pair_seeds_and_count_divergence():
    ours = [curve(3, 1.0), curve(3, 2.0), curve(3, np.nan), curve(3, 1.5)]
    theirs = [curve(3, 2.0), curve(3, 1.0), curve(3, 1.0), curve(3, np.inf)]
    np.testing.assert_allclose(final_loss_ratios(ours, theirs), [2.0, 0.5, 0.0, 2.0])
    nan = [curve(3, np.nan)]
    np.testing.assert_allclose(final_loss_ratios(nan, nan), [1.0])  # neither is better
    np.testing.assert_allclose(final_loss_ratios([curve(3, 4.0)], nan), [1.01])  # ours got through
    solved, nearly, unsolved = [curve(3, 0.0)], [curve(3, 1e-20)], [curve(3, 1.0)]
    np.testing.assert_allclose(final_loss_ratios(solved, nearly), [1.0])
    assert np.isfinite(final_loss_ratios(solved, unsolved)).all()


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [
        ((4, 2, 1), 2.0, 10.0),
        ((4, 2, 1), 3.0, 5.0),
        ((4, 2, 3, 1), 1.5, 27.5),
        ((4, 2, 1), 0.5, np.inf),
        ((4, 2, 1), 5.0, 0.0),
        ((4, 2, 1), np.nan, np.inf),
        ((np.inf, 2), 2.5, 10.0),
    ],
)
def test_steps_to_reach(losses, target, expected):
    assert steps_to_reach(curve(*losses), target) == expected


def test_steps_are_to_a_target_of_each_run():
    curves = [curve(4, 2, 1), curve(4, 3, 2), curve(4, 4, 4)]
    assert steps_to_targets(curves, np.asarray([3.0, 2.0, 2.0])).tolist() == [5, 20, np.inf]


def test_the_ways_of_the_reference_are_rates_and_the_ends_of_stretches_on_the_scored_seeds():
    seen = []

    def run(contestant, role, specs):
        seen.append((contestant.name, role, specs))
        return [
            curve(3, 1, steps=[0, s.steps]) if s.curve else curve(s.steps + s.seed, steps=[s.steps])
            for s in specs
        ]

    tuned = Tuned({"constant": (0.1, 0.0), "cosine": (0.3, 0.0)}, "cosine", 2.0, {})
    ways = reference_ways(run, BASELINES["adam"], tuned, 100, 3)
    [(name, role, specs)] = seen
    assert (name, role) == ("adam", "ways")
    assert len(ways) == 3 + 1
    assert all(len(way) == 3 for way in ways)
    constant, cosine = specs[:9], specs[9:]
    assert [s.settings["learning_rate"] for s in constant[::3]] == [0.05, 0.1, 0.2]
    assert {s.steps for s in constant} == {400}
    lengths = [6, 12, 25, 50, 75, 100, 150, 200, 300, 400]
    assert [s.steps for s in cosine[::3]] == lengths
    assert all(s.settings["horizon"] == s.steps for s in cosine)
    assert {s.settings["learning_rate"] for s in cosine} == {0.3}
    assert [s.seed for s in specs[:3]] == [0, 1, 2]
    assert len(lengths) == len(STRETCHES)
    for seed, way in enumerate(ways[-1]):  # a point for the end of each run
        assert way.steps.tolist() == [0, *lengths]
        assert way.test.tolist() == [3, *(length + seed for length in lengths)]


def test_dips_are_no_place_to_stop_and_a_fall_is_left_as_it_is():
    falling = np.asarray([9, 7, 4, 3, 1, 0.5])
    np.testing.assert_array_equal(without_dips(curve(*falling)).test, falling)
    dips = [9, 7, 1, 1, 6, 5, 4]
    assert without_dips(curve(*dips)).test.tolist() == [9, 7, 6, 5, 4, 5, 4]
    diverged = without_dips(curve(9, 7, 5, np.nan, np.nan, np.nan))
    assert diverged.test.tolist() == [9, 7, 9, np.inf, np.inf, np.inf]


OWN = np.full(5, 0.9)  # the reference takes the horizon for it: none of the ways gets there


def measured(ways, losses, own):
    """What `measure_task` returns, with final losses of ours and of the reference."""
    curves = {"ours": [curve(3, x) for x in losses], "adam": [curve(3, x) for x in own]}
    return TaskResult(curves, {"ours": "ours", "adam": "adam"}, {}, ways, {})


def sped_up(ways, losses, own, horizon):
    return speedups(measured(ways, losses, own), "ours", horizon)


def test_speedups_take_the_quickest_way_of_the_reference():
    """The middle constant rate gets to 1 at 80 steps; a schedule only at its end."""

    def way(*ends):
        return [curve(3.0, 3.0, 1.0, steps=[0, end - 1, end]) for end in ends]

    ways = [way(400, 400, 400, 400), way(80, 80, 80, 80), way(100, 50, 100, 100)]
    found, censored = sped_up(ways, np.asarray([1.0, 1.0, np.nan, 2.0]), OWN[:4], 100)
    np.testing.assert_allclose(found, [0.8, 0.8, 0.0, 0.795], rtol=1e-6)
    assert not censored.any()
    found, censored = sped_up(ways, np.asarray([1.0, 0.5, 1.0, 1.0]), OWN[:4], 100)
    np.testing.assert_allclose(found, [0.8, LONGEST, 0.8, 0.8], rtol=1e-6)
    assert censored.tolist() == [False, True, False, False]


def test_a_seed_takes_the_lucky_way_only_where_the_quickest_does_not_get_there():
    quick = [curve(3, 1, steps=[0, 50]), curve(3, 1, steps=[0, 50]), curve(3, 2, steps=[0, 50])]
    slow = [curve(3, 1, steps=[0, 40]), curve(3, 1, steps=[0, 90]), curve(3, 1, steps=[0, 90])]
    found, censored = sped_up([slow, quick], np.ones(3), OWN[:3], 100)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.9])
    assert not censored.any()


@pytest.mark.parametrize("reversed_ways", [False, True])
def test_the_quickest_way_is_that_of_the_seeds_that_say_something(reversed_ways):
    """Where ours diverged, or the reference never gets there, on most seeds: in any order."""

    def way(*ends):
        return [curve(3, 1, steps=[0, end]) for end in ends]

    ways = [way(390, 390, 390, 390, 390), way(100, 100, 100, 100, 100)]
    ways = ways[::-1] if reversed_ways else ways
    found, censored = sped_up(ways, np.asarray([np.nan, np.inf, np.nan, 1, 1]), OWN, 100)
    assert found.tolist() == [0, 0, 0, 1, 1]
    assert not censored.any()
    found, censored = sped_up(ways, np.asarray([0.1, 0.1, 0.1, 1, 1]), OWN, 100)
    assert found.tolist() == [LONGEST, LONGEST, LONGEST, 1, 1]
    assert censored.tolist() == [True, True, True, False, False]
    found, censored = sped_up(ways, np.full(5, np.nan), OWN, 100)
    assert (found.tolist(), censored.any()) == ([0] * 5, False)


def test_a_speedup_is_over_what_the_reference_takes_to_its_own_loss():
    """It is done at 50 of 100 steps: who ends there is as fast, and faster only beyond the 100."""
    falling = curve(3, 2, 1, 0.5, steps=[0, 25, 50, 75])
    ways = [[falling] * 5]
    losses = np.asarray([1.0, 2.0, 0.5, 0.1, 1.0])
    own = np.asarray([1.0, 1.0, 1.0, 1.0, np.inf])
    found, censored = sped_up(ways, losses, own, 100)
    assert found.tolist() == [1, 0.5, 1, LONGEST, 0.5]  # where it diverged it takes the horizon
    assert censored.tolist() == [False, False, False, True, False]
    needed = horizons_needed(measured(ways, losses, own), "ours", 100)
    assert needed.tolist() == [0.5, 0.25, 0.75, LONGEST, 0.5]
    further = [[curve(3, 1, 0.5, steps=[0, 50, 250])] * 5]
    found, censored = sped_up(further, np.full(5, 0.5), np.full(5, 1.0), 100)
    assert (found.tolist(), censored.any()) == ([2.5] * 5, False)
    stuck = [[curve(3, 3, steps=[0, 400])] * 5]
    found, censored = sped_up(stuck, np.full(5, 1.0), np.full(5, 1.0), 100)
    assert (found.tolist(), censored.any()) == ([1] * 5, False)


def test_a_target_is_reached_for_good():
    """Not by one who was there on the way, and not later for one peak."""
    targets = np.full(6, 2.0)
    curves = [
        curve(9, 5, 3, 2, 2, 2, 2),  # Adam to its own loss
        curve(9, 1, 1, 1, 1, 3, 3),  # a winner on the way
        curve(9, 1, 1, 5, 1, 1, 1),  # one peak
        curve(9, 5, 1, 5, 5, 5, 1),  # one dip, then the end
        curve(9, 1, 1, 1, 1, 1, np.nan),
        curve(2, 2, 2, 2, 2, 2, 2),
    ]
    expected = [30, np.inf, 10 * 7 / 8, 57.5, np.inf, 0]
    np.testing.assert_allclose(steps_to_stay(curves, targets), expected)


def test_what_is_missing_of_one_is_not_missing_of_others():
    """Lion has no runs at all, Adam no ways: both are said, and SGD is there."""
    fake = FakeRun(1e-3)

    def run(contestant, role, specs):
        if contestant.name == "lion" or role == "ways":
            raise MissingRunsError(f"{role} of {contestant.name}")
        if role.startswith("tuning"):
            return fake(contestant, role, specs)
        return [curve(3, 1 + spec.seed) for spec in specs]

    everyone = [BASELINES[name] for name in ("adam", "lion", "sgd_momentum")]
    grid = Grid(rates_of(2, -5, 0), 2)
    result = measure_task(run, everyone, steps=10, seeds=2, grid=grid)
    assert result.missing == {"adam": "ways of adam", "lion": "tuning0 of lion"}
    assert result.chosen["sgd_momentum"] == "sgd_momentum/cosine"
    assert set(result.tuned) == {"adam", "sgd_momentum"}
    assert final_losses(result.curves["sgd_momentum/constant"]).tolist() == [1, 2]
    assert "lion/cosine" not in result.curves
