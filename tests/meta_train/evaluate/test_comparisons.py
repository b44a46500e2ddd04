"""Profiles, scores, probabilities and verdicts: by hand."""

import numpy as np
import pytest
from scipy import stats

from meta_train.evaluate.statistics import (
    Estimate,
    Verdict,
    algoperf_score,
    estimated_algoperf_scores,
    judge,
    performance_profile,
    probability_of_improvement,
    profile_integral,
)
from tests.meta_train.evaluate.coverage import coverage


def test_probability_of_improvement_is_mann_whitneys_without_the_pairs_on_one_seed():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(0, 1, 12), random.normal(0.5, 1, 12)
    ours[3] = theirs[3] = theirs[5]
    won = 12**2 - stats.mannwhitneyu(ours, theirs).statistic
    own = (ours < theirs).sum() + 0.5 * (ours == theirs).sum()
    found = probability_of_improvement([ours], [theirs], seed=0)
    assert found.value == pytest.approx((won - own) / (12 * 11))
    assert 0 <= found.low < found.value < found.high <= 1


def test_probability_of_improvement_by_hand():
    tasks = [
        ([1.0, 2.0], [2.0, 3.0]),  # 1 < 3, 2 = 2
        ([np.nan, 1.0], [5.0, np.inf]),  # nan and ∞ are equal, 1 < 5
        ([4.0, 4.0], [1.0, 1.0]),
        ([1.0], [1.0]),  # one seed alone is compared with itself
    ]
    expected = [1.5 / 2, 1.5 / 2, 0.0, 0.5]
    for (ours, theirs), p in zip(tasks, expected, strict=True):
        found = probability_of_improvement([np.asarray(ours)], [np.asarray(theirs)], seed=0)
        assert found.value == p
    ours, theirs = ([np.asarray(x) for x in side] for side in zip(*tasks, strict=True))
    assert probability_of_improvement(ours, theirs, seed=0).value == np.mean(expected)


def test_runs_that_share_their_seeds_do_not_bias_it():
    """Each run of ours is a little lower than theirs on its seed, and hardly than on another."""
    shared = np.random.default_rng(0).normal(size=(400, 5))
    found = [probability_of_improvement([x - 0.01], [x], seed=0, resamples=1).value for x in shared]
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)
    assert np.mean([(x - 0.01)[:, None] < x for x in shared]) > 0.58  # with those on one seed


def test_a_profile_by_hand():
    """Each task weighs the same, whatever its seeds."""
    strata = [np.asarray([0.5, 1.5]), np.asarray([1.0, 2.0, 3.0, 4.0])]
    shares = performance_profile(strata, np.asarray([0.0, 0.9, 1.0, 2.5, 4.0]), seed=0)
    expected = [1, (0.5 + 1) / 2, (0.5 + 0.75) / 2, 0.5 / 2, 0]
    assert [share.value for share in shares] == pytest.approx(expected)
    assert all(0 <= share.low <= share.value <= share.high <= 1 for share in shares)
    assert (shares[0].low, shares[-1].high) == (1, 0)


def test_the_integral_of_a_profile_is_the_area_under_it():
    strata = [np.random.default_rng(i).lognormal(size=7) for i in range(3)]
    fine = np.linspace(0.5, 1.5, 200_001)
    shares = performance_profile(strata, fine, seed=0, resamples=1)
    area = np.trapezoid([share.value for share in shares], fine)
    assert profile_integral(strata, 0.5, 1.5, seed=0).value == pytest.approx(area, abs=1e-5)


def test_algoperfs_score_by_hand():
    times = np.asarray([[1.0, 4.0, np.inf, np.nan], [2.0, 1.0, 3.0, np.inf], [8.0, 4.0, 3.0, 5.0]])
    # ratios to the best: 1 4 ∞ ∞ | 2 1 1 ∞ | 8 4 1 1, each worth (4 − r)/3 from 1 to 4.
    expected = np.asarray([(3 + 0), (2 + 3 + 3), (0 + 0 + 3 + 3)]) / 4 / 3
    assert algoperf_score(times) == pytest.approx(expected)
    seeds = [np.stack([t / 2, t, 3 * t], axis=-1) for t in times.T]  # of every task, [K, seeds]
    found = estimated_algoperf_scores(seeds, seed=0)
    assert [score.value for score in found] == pytest.approx(expected)


def test_algoperfs_score_is_the_integral_of_the_share_within_tau():
    random = np.random.default_rng(1)
    times = random.lognormal(sigma=0.7, size=(3, 11))
    times[0, 3] = np.inf
    taus = np.linspace(1, 4, 100_001)
    ratios = times / times.min(axis=0)
    shares = (ratios[:, :, None] <= taus).mean(axis=1)
    area = np.trapezoid(shares, taus, axis=1) / 3
    assert algoperf_score(times) == pytest.approx(area, abs=1e-4)


def test_a_task_that_nobody_solved_counts_for_none_and_an_instant_one_for_its_winner():
    times = np.asarray([[np.inf, 0.0], [np.inf, 2.0]])
    assert algoperf_score(times) == pytest.approx([0.5, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize("seeds", [10, 20])
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_intervals_of_the_probability_of_improvement_cover_it(shared, seeds, tasks):
    """Normal losses whose correlation on a seed is ``shared``, each task with a lead of its own.

    Where seeds share nearly all, the intervals are a little wider than they need to be.
    """
    leads = [0.1 + 0.9 * shared + 0.15 * i for i in range(tasks)]
    truth = np.mean([stats.norm.cdf(lead / np.sqrt(2)) for lead in leads])

    def draw(random):
        both = np.sqrt(shared) * random.normal(size=(tasks, seeds))
        ours, theirs = both + np.sqrt(1 - shared) * random.normal(size=(2, tasks, seeds))
        return ours, theirs + np.asarray(leads)[:, None]

    def estimate(data, **how):
        return probability_of_improvement(*data, **how)

    assert 0.93 <= coverage(draw, truth, estimate, seeds) <= (0.985 if shared == 0.9 else 0.97)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize("seeds", [10, 20])
def test_intervals_of_the_integral_of_a_profile_cover_it(seeds, tasks):
    """Lognormal ratios, of which some lie outside of what is integrated over."""
    means = 0.05 * np.arange(tasks) - 0.1
    x = np.linspace(-6, 6, 20_001)
    weights = stats.norm.pdf(x) / stats.norm.pdf(x).sum()
    inside = np.clip(np.exp(means[:, None] + 0.3 * x), 0.5, 1.5) - 0.5
    truth = (inside * weights).sum(axis=1).mean()

    def draw(random):
        return list(np.exp(random.normal(means[:, None], 0.3, (tasks, seeds))))

    def estimate(ratios, **how):
        return profile_integral(ratios, 0.5, 1.5, **how)

    assert 0.92 <= coverage(draw, truth, estimate, seeds) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 11, 21])
def test_intervals_of_algoperfs_score_cover_that_of_the_true_times(seeds):
    """Ten tasks, three optimizers: lognormal times, whose median is the true one."""
    times = np.exp(np.random.default_rng(1).normal(0, 0.5, (10, 3)))
    truth = algoperf_score(times.T)

    def draw(random):
        return [own[:, None] * np.exp(random.normal(0, 0.2, (3, seeds))) for own in times]

    for k in range(3):
        found = coverage(
            draw, truth[k], lambda data, k=k, **how: estimated_algoperf_scores(data, **how)[k],
            seeds, trials=400,
        )  # fmt: skip
        assert 0.92 <= found <= 1.0


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(1.2, 1.05, 1.3), Verdict.WIN),
        (Estimate(1.2, 0.99, 1.3), Verdict.TIE),
        (Estimate(1.005, 1.001, 1.009), Verdict.TIE),  # too small an effect
        (Estimate(0.8, 0.7, 0.9), Verdict.LOSS),
        (Estimate(0.995, 0.992, 0.999), Verdict.TIE),
        (Estimate(0.8, 0.7, 1.0), Verdict.TIE),
        (Estimate(0.0, 0.0, 0.0), Verdict.LOSS),
    ],
)
def test_verdicts(estimate, expected):
    assert judge(estimate, 5) == expected
    assert judge(estimate, 4) == Verdict.TIE
    diverged = Verdict.LOSS if expected == Verdict.LOSS else Verdict.TIE
    assert judge(estimate, 5, diverged=1) == diverged
    if estimate.low > 0:
        inverse = Estimate(*(1 / x for x in (estimate.value, estimate.high, estimate.low)))
        opposite = {Verdict.WIN: Verdict.LOSS, Verdict.LOSS: Verdict.WIN, Verdict.TIE: Verdict.TIE}
        assert judge(inverse, 5) == opposite[expected]
