"""Estimators of ∇_θ Σ_t L_t of an `UnrolledProblem`, by name, over one interface:

estimator = ESTIMATORS["pes"](problem, window=10, particles=100, sigma=0.3, length=100)
state = estimator.init(key, theta)
gradient, state, info = estimator.step(key, theta, state, data)
"""

from collections.abc import Callable, Mapping

from meta_train.estimators.base import EstimatorInfo, GradientEstimator
from meta_train.estimators.pes import pes

ESTIMATORS: Mapping[str, Callable[..., GradientEstimator]] = {"pes": pes}

__all__ = ["ESTIMATORS", "EstimatorInfo", "GradientEstimator"]
