"""Profiles, scores, probabilities and verdicts: by hand."""

import numpy as np
import pytest
from scipy import stats

from meta_train.evaluate.statistics import (
    Estimate,
    Verdict,
    algoperf_score,
    judge,
    performance_profile,
    probability_of_improvement,
    profile_integral,
)


def test_probability_of_improvement_is_mann_whitneys():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(0, 1, 12), random.normal(0.5, 1, 9)
    expected = 1 - stats.mannwhitneyu(ours, theirs).statistic / (12 * 9)
    assert probability_of_improvement([ours], [theirs]) == pytest.approx([expected])


def test_probability_of_improvement_by_hand():
    found = probability_of_improvement(
        [np.asarray([1.0, 2.0]), np.asarray([np.nan, 1.0]), np.asarray([1.0])],
        [np.asarray([2.0, 3.0]), np.asarray([5.0, np.inf]), np.asarray([1.0])],
    )
    # 1 < 2, 1 < 3, 2 = 2, 2 < 3; nan against 5 loses, against ∞ ties, 1 wins twice; a tie.
    assert found == pytest.approx([3.5 / 4, 2.5 / 4, 0.5])


def test_a_profile_by_hand():
    """Each task weighs the same, whatever its seeds."""
    strata = [np.asarray([0.5, 1.5]), np.asarray([1.0, 2.0, 3.0, 4.0])]
    shares = performance_profile(strata, np.asarray([0.0, 0.9, 1.0, 2.5, 4.0]))
    assert shares == pytest.approx([1, (0.5 + 1) / 2, (0.5 + 0.75) / 2, 0.5 / 2, 0])


def test_the_integral_of_a_profile_is_the_area_under_it():
    strata = [np.random.default_rng(i).lognormal(size=7) for i in range(3)]
    fine = np.linspace(0.5, 1.5, 200_001)
    area = np.trapezoid(performance_profile(strata, fine), fine)
    assert profile_integral(strata, 0.5, 1.5) == pytest.approx(area, abs=1e-5)


def test_algoperfs_score_by_hand():
    times = np.asarray([[1.0, 4.0, np.inf, np.nan], [2.0, 1.0, 3.0, np.inf], [8.0, 4.0, 3.0, 5.0]])
    # ratios to the best: 1 4 ∞ ∞ | 2 1 1 ∞ | 8 4 1 1, each worth (4 − r)/3 from 1 to 4.
    expected = np.asarray([(3 + 0), (2 + 3 + 3), (0 + 0 + 3 + 3)]) / 4 / 3
    assert algoperf_score(times) == pytest.approx(expected)


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
    if estimate.low > 0:
        inverse = Estimate(*(1 / x for x in (estimate.value, estimate.high, estimate.low)))
        opposite = {Verdict.WIN: Verdict.LOSS, Verdict.LOSS: Verdict.WIN, Verdict.TIE: Verdict.TIE}
        assert judge(inverse, 5) == opposite[expected]
