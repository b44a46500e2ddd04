"""How optimizers compare: probability of improvement, profiles, AlgoPerf's score, verdicts.

Agarwal et al. 2021, arXiv:2108.13264 (probability of improvement, performance profiles); Dolan &
Moré 2002 and Dahl et al. 2023, arXiv:2306.07179 (profiles of times, and the score of them).
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from meta_train.evaluate.statistics.intervals import Estimate

R_MAX = 4.0
SMALLEST_EFFECT = 0.01
FEWEST = 5  # seeds of a verdict: below, intervals do not cover what they should


class Verdict(StrEnum):
    """What an interval of a ratio says of us."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


def judge(ratio: Estimate, seeds: int, smallest: float = SMALLEST_EFFECT) -> Verdict:
    """A win where the whole interval is above 1 and the effect is of ``smallest`` or more.

    A loss is that of the inverse; all else is a tie, and so is what fewer than `FEWEST` seeds say.
    """
    if seeds < FEWEST:
        return Verdict.TIE
    if ratio.low > 1 and ratio.value >= 1 + smallest:
        return Verdict.WIN
    if ratio.high < 1 and ratio.value <= 1 / (1 + smallest):
        return Verdict.LOSS
    return Verdict.TIE


def probability_of_improvement(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> np.ndarray:
    """P(our loss < theirs) + ½ P(equal) on each task, over all pairs of runs. Shape [tasks].

    Args:
      ours, theirs: losses [n_i] and [m_i] of every task; one that is not finite is the worst.
    """
    found = []
    for x, y in zip(ours, theirs, strict=True):
        a = np.where(np.isfinite(x), x, np.inf)[:, None]
        b = np.where(np.isfinite(y), y, np.inf)[None]
        found.append(np.mean((a < b) + 0.5 * (a == b)))
    return np.asarray(found)


def performance_profile(strata: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Share of runs with a value above τ, every task weighing the same. Shapes: [T] → [T]."""
    shares = [(np.asarray(s)[:, None] > np.asarray(thresholds)[None]).mean(axis=0) for s in strata]
    return np.mean(shares, axis=0)


def profile_integral(strata: Sequence[np.ndarray], low: float, high: float) -> float:
    """The mean of the profile over low ≤ τ ≤ high, exactly."""
    inside = [(np.clip(s, low, high) - low).mean() / (high - low) for s in strata]
    return float(np.mean(inside))


def algoperf_score(times: np.ndarray, r_max: float = R_MAX) -> np.ndarray:
    """1/(r_max − 1) · ∫₁^{r_max} ρ(τ) dτ of every optimizer. Shapes: [K, tasks] → [K].

    ρ(τ) is the share of tasks on which a time is within τ of the best one of all optimizers; a
    time that is not finite is of a target that was not reached. A task that none reached
    counts for none.
    """
    times = np.asarray(times, float)
    times = np.where(np.isfinite(times), times, np.inf)
    best = times.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(best > 0, times / best, np.where(times > 0, np.inf, 1.0))
    ratios = np.where(np.isfinite(times), ratios, np.inf)
    return np.clip(r_max - ratios, 0, r_max - 1).mean(axis=1) / (r_max - 1)
