"""The statistics of evaluations: pure functions of NumPy arrays, with explicit seeds."""

from meta_train.evaluate.statistics.comparisons import (
    Verdict,
    algoperf_score,
    estimated_algoperf_scores,
    judge,
    performance_profile,
    probability_of_improvement,
    profile_integral,
)
from meta_train.evaluate.statistics.intervals import (
    Estimate,
    bootstrap,
    interquartile_mean,
    weighted_mean,
)

__all__ = [
    "Estimate",
    "Verdict",
    "algoperf_score",
    "bootstrap",
    "estimated_algoperf_scores",
    "interquartile_mean",
    "judge",
    "performance_profile",
    "probability_of_improvement",
    "profile_integral",
    "weighted_mean",
]
