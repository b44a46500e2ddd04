"""How optimizers compare: probability of improvement, profiles, AlgoPerf's score, verdicts.

Agarwal et al. 2021, arXiv:2108.13264 (probability of improvement, performance profiles); Dolan &
Moré 2002 and Dahl et al. 2023, arXiv:2306.07179 (profiles of times, and the score of them).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from meta_train.evaluate.statistics.intervals import (
    Estimate,
    bootstrap,
    bootstrap_of_draws,
    weighted_mean,
)

R_MAX = 4.0
SMALLEST_EFFECT = 0.01
FEWEST = 5  # seeds of a verdict: below, intervals do not cover what they should


class Verdict(StrEnum):
    """What an interval of a ratio says of us."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


def judge(
    ratio: Estimate, seeds: int, diverged: int = 0, smallest: float = SMALLEST_EFFECT
) -> Verdict:
    """A win where the whole interval is above 1, the effect is of ``smallest`` or more, and no
    run of ours alone has ``diverged``: of those the IQM leaves out a quarter.

    A loss is where the inverse is so; all else is a tie, and so is what fewer than `FEWEST` seeds
    say.
    """
    if seeds < FEWEST:
        return Verdict.TIE
    if ratio.low > 1 and ratio.value >= 1 + smallest and not diverged:
        return Verdict.WIN
    if ratio.high < 1 and ratio.value <= 1 / (1 + smallest):
        return Verdict.LOSS
    return Verdict.TIE


def probability_of_improvement(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], **how: Any
) -> Estimate:
    """P(our loss < theirs) + ½ P(equal) of runs on two seeds, the mean over tasks.

    Over all pairs of runs but those on one seed, which share its task, start and minibatches, and
    so say little of two runs at large; in a resample, for the same reason, but those of a seed
    that is drawn twice. Seeds are drawn for both together.

    Args:
      ours, theirs: losses [n_i] of every task, on the same seeds; one that is not finite is the
        worst. A seed alone is a pair with itself.
      **how: of `bootstrap_of_draws`.
    """
    won = [_pairs_won(x, y) for x, y in zip(ours, theirs, strict=True)]

    def of_draws(draws: Sequence[np.ndarray], times: np.ndarray) -> np.ndarray:
        shares = [_mean_of_other_seeds(w, d) for w, d in zip(won, draws, strict=True)]
        return weighted_mean(np.stack(shares, axis=1), times)[:, None]

    (estimate,) = bootstrap_of_draws([len(w) for w in won], of_draws, **how)
    return estimate


def _pairs_won(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where ours is lower, ½ where they are equal: [n, n]."""
    a, b = _or_never(ours)[:, None], _or_never(theirs)[None]
    return (a < b) + 0.5 * (a == b)


def _mean_of_other_seeds(won: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Over pairs of two different seeds of those drawn, [R, n]; where one alone is, its own. [R]"""
    rows, columns = draw[:, :, None], draw[:, None]
    counts = np.broadcast_to(rows != columns, won[rows, columns].shape).astype(float)
    counts[counts.sum(axis=(1, 2)) == 0] = 1
    return (won[rows, columns] * counts).sum(axis=(1, 2)) / counts.sum(axis=(1, 2))


def performance_profile(
    strata: Sequence[np.ndarray], thresholds: np.ndarray, **how: Any
) -> list[Estimate]:
    """Share of runs with a value above each threshold τ, every task weighing the same.

    Args:
      strata: values [n_i] of every task.
      thresholds: τ, [T].
      **how: of `bootstrap_of_draws`.
    """
    above = [np.asarray(s)[:, None] > np.asarray(thresholds)[None] for s in strata]

    def of_draws(draws: Sequence[np.ndarray], times: np.ndarray) -> np.ndarray:
        shares = [a[d].mean(axis=1) for a, d in zip(above, draws, strict=True)]
        return weighted_mean(np.stack(shares, axis=-1), times[:, None])

    return bootstrap_of_draws([len(a) for a in above], of_draws, **how)


def profile_integral(strata: Sequence[np.ndarray], low: float, high: float, **how: Any) -> Estimate:
    """The mean of the profile over low ≤ τ ≤ high, exactly; ``how``: of `bootstrap`."""
    inside = [(np.clip(s, low, high) - low) / (high - low) for s in strata]
    return bootstrap(inside, statistic=weighted_mean, **how)


def algoperf_score(times: np.ndarray, r_max: float = R_MAX) -> np.ndarray:
    """1/(r_max − 1) · ∫₁^{r_max} ρ(τ) dτ of every optimizer. Shapes: [K, tasks] → [K].

    ρ(τ) is the share of tasks on which a time is within τ of the best one of all optimizers; a
    time that is not finite is of a target that was not reached. A task that none reached
    counts for none.
    """
    return _credits(times, r_max).mean(axis=-1)


def estimated_algoperf_scores(
    times: Sequence[np.ndarray], r_max: float = R_MAX, **how: Any
) -> list[Estimate]:
    """`algoperf_score` of the median times over seeds, with the intervals of all K scores.

    Args:
      times: of every task, [K, n_i]: those of all optimizers on the same seeds.
      r_max: the largest τ.
      **how: of `bootstrap_of_draws`.
    """
    finite = [_or_never(of_task) for of_task in times]

    def of_draws(draws: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
        medians = [np.median(t[:, d], axis=-1).T for t, d in zip(finite, draws, strict=True)]
        return weighted_mean(_credits(np.stack(medians, axis=-1), r_max), counts[:, None])

    return bootstrap_of_draws([t.shape[1] for t in finite], of_draws, **how)


def _credits(times: np.ndarray, r_max: float) -> np.ndarray:
    """The score of one task: 1 for the best time, 0 for one of r_max times it. [..., K, tasks]"""
    times = _or_never(times)
    best = times.min(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(best > 0, times / best, np.where(times > 0, np.inf, 1.0))
    ratios = np.where(np.isfinite(times), ratios, np.inf)
    return np.clip(r_max - ratios, 0, r_max - 1) / (r_max - 1)


def _or_never(times: np.ndarray) -> np.ndarray:
    times = np.asarray(times, float)
    return np.where(np.isfinite(times), times, np.inf)
