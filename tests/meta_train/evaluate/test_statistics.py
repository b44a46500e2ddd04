"""Interquartile means and bootstrap intervals: by hand, against SciPy, and by coverage."""

import numpy as np
import pytest
from scipy import stats

from meta_train.evaluate.statistics import bootstrap, interquartile_mean, weighted_mean


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


def test_every_stratum_weighs_the_same():
    small, large = np.zeros(4), np.ones(400)
    estimate = bootstrap([small, large], seed=0, statistic=weighted_mean, resamples=10)
    assert estimate.value == pytest.approx(0.5)


def test_the_interval_is_that_of_scipy_up_to_the_correction():
    values = np.random.default_rng(0).lognormal(size=30)
    estimate = bootstrap([values], seed=1, statistic=weighted_mean, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, random_state=2
    ).confidence_interval
    wider = np.sqrt(30 / 29)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.value - estimate.low == pytest.approx(
        wider * (values.mean() - theirs.low), rel=0.03
    )
    assert estimate.high - estimate.value == pytest.approx(
        wider * (theirs.high - values.mean()), rel=0.03
    )


def test_the_seed_decides():
    values = [np.random.default_rng(0).normal(size=12)]
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [10, 16, 64])
def test_intervals_cover_the_truth_about_95_times_of_100(seeds):
    """Two tasks with their own spread; the truth of a normal's IQM is its mean."""
    random = np.random.default_rng(seeds)
    trials = 2_000
    covered = 0
    for _ in range(trials):
        strata = [random.normal(1.0, 0.1, seeds), random.normal(1.0, 0.4, seeds)]
        estimate = bootstrap(strata, seed=int(random.integers(1 << 31)), resamples=400)
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.93 <= covered / trials <= 0.97


def test_a_planted_fault_would_show():
    """Without the middle half, one wild seed moves the estimate; with it, it does not."""
    values = np.append(np.ones(15), 1e6)
    assert interquartile_mean(values) == 1
    assert weighted_mean(values, np.ones(16)) > 1e4
