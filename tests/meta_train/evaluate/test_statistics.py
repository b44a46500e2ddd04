"""Interquartile means and bootstrap intervals: by hand, against SciPy, and by coverage."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from meta_train.evaluate.statistics import bootstrap, interquartile_mean, weighted_mean
from meta_train.evaluate.statistics.intervals import outside_of, student_quantile
from tests.meta_train.evaluate.coverage import coverage


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4], 2.5),
        ([4, 1, 100, 2], 3.0),
        ([5], 5.0),
        ([np.inf, 1, 2, 0], 1.5),
        ([1, 3], 2.0),
        # Six values: the quartiles cut the second and the fifth in half.
        ([0, 1, 2, 3, 4, 50], (0.5 * 1 + 2 + 3 + 0.5 * 4) / 3),
    ],
)
def test_interquartile_mean_by_hand(values, expected):
    assert interquartile_mean(np.asarray(values, float)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [8, 20, 64])
def test_interquartile_mean_is_the_trimmed_mean_of_scipy(size):
    values = np.random.default_rng(size).standard_cauchy((5, size))
    np.testing.assert_allclose(
        interquartile_mean(values), stats.trim_mean(values, 0.25, axis=1), rtol=1e-12
    )


def test_weights_are_multiplicities():
    values, counts = np.asarray([3.0, 1.0, 7.0, 2.0]), np.asarray([1, 4, 2, 5])
    repeated = np.repeat(values, counts)
    assert interquartile_mean(values, counts) == pytest.approx(interquartile_mean(repeated))
    assert weighted_mean(values, counts) == pytest.approx(repeated.mean())
    both = interquartile_mean(np.stack([values, values]), np.stack([counts, np.ones(4)]))
    assert both == pytest.approx([interquartile_mean(repeated), interquartile_mean(values)])


def test_every_stratum_weighs_the_same():
    small, large = np.zeros(4), np.ones(400)
    estimate = bootstrap([small, large], seed=0, statistic=weighted_mean, resamples=10)
    assert estimate.value == pytest.approx(0.5)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 8, 30, 200])
def test_students_quantile_is_that_of_scipy(freedom):
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_the_interval_is_that_of_scipy_at_the_expanded_percentiles():
    values = np.random.default_rng(0).lognormal(size=30)
    estimate = bootstrap([values], seed=1, statistic=weighted_mean, resamples=40_000)
    outside = stats.norm.sf(np.sqrt(30 / 29) * stats.t.ppf(0.975, 29))
    assert outside_of([30]) == pytest.approx(outside, rel=1e-6)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=40_000, random_state=2,
        confidence_level=1 - 2 * outside,
    ).confidence_interval  # fmt: skip
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.value - estimate.low == pytest.approx(values.mean() - theirs.low, rel=0.03)
    assert estimate.high - estimate.value == pytest.approx(theirs.high - values.mean(), rel=0.03)


def test_the_seed_decides():
    values = [np.random.default_rng(0).normal(size=12)]
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_resamples_in_parts_are_as_good(monkeypatch):
    values = [np.random.default_rng(0).normal(size=12)]
    whole = bootstrap(values, seed=3)
    monkeypatch.setattr("meta_train.evaluate.statistics.intervals.AT_ONCE", 12 * 1000)
    parts = bootstrap(values, seed=3)
    np.testing.assert_allclose(parts, whole, atol=0.03)


def test_an_interval_of_ratios_is_never_negative_and_of_one_value_is_everything():
    ratios = [np.asarray([0.1, 0.2, 80.0, 0.3]), np.asarray([1.0, 0.0, 2.0, 1.5])]
    estimate = bootstrap(ratios, seed=0)
    assert 0 <= estimate.low <= estimate.value <= estimate.high
    assert bootstrap([np.asarray([2.0])], seed=0) == (2.0, -np.inf, np.inf)
    assert bootstrap(ratios[:1], seed=0, over_strata=True).high == np.inf


def test_over_strata_the_tasks_are_drawn_too():
    """Between tasks the spread is large, within them it is none."""
    strata = [np.full(10, mean) for mean in (0.0, 1.0, 2.0, 3.0, 4.0)]
    fixed = bootstrap(strata, seed=0, statistic=weighted_mean)
    drawn = bootstrap(strata, seed=0, statistic=weighted_mean, over_strata=True)
    assert fixed == pytest.approx((2.0, 2.0, 2.0))
    spread = np.std([0, 1, 2, 3, 4], ddof=1) / np.sqrt(5) * stats.t.ppf(0.975, 4)
    assert drawn.high - drawn.low == pytest.approx(2 * spread, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 2, 10])
@pytest.mark.parametrize("seeds", [10, 20, 64])
def test_intervals_cover_the_truth_about_95_times_of_100(seeds, tasks):
    """Tasks with a spread of their own; the truth of a normal's IQM is its mean."""

    def draw(random):
        return [random.normal(1.0, 0.1 * (1 + i % 3), seeds) for i in range(tasks)]

    assert 0.93 <= coverage(draw, 1.0, bootstrap, seeds) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 2, 10])
def test_at_five_seeds_they_cover_nearly_as_often(tasks):
    def draw(random):
        return [random.normal(1.0, 0.1 * (1 + i % 3), 5) for i in range(tasks)]

    assert 0.92 <= coverage(draw, 1.0, bootstrap, 5) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [10, 20])
def test_intervals_over_tasks_cover_the_mean_of_all_tasks(tasks):
    def draw(random):
        means = random.normal(1.0, 0.3, tasks)
        return [random.normal(mean, 0.1, 5) for mean in means]

    of_mean = partial(bootstrap, statistic=weighted_mean)
    assert 0.93 <= coverage(draw, 1.0, partial(of_mean, over_strata=True), tasks) <= 0.97
    assert coverage(draw, 1.0, of_mean, tasks, trials=300) < 0.8  # those of fixed tasks do not


def test_a_planted_fault_would_show():
    """Without the middle half, one wild seed moves the estimate; with it, it does not."""
    values = np.append(np.ones(15), 1e6)
    assert interquartile_mean(values) == 1
    assert weighted_mean(values, np.ones(16)) > 1e4
