"""Backpropagation through whole episodes.

ĝ = ∇_θ Σ_{t≤T} L_t, exactly: the window is the episode
"""

from typing import Unpack

from meta_train.estimators.base import GradientEstimator, check_whole_episode
from meta_train.estimators.differentiated import (
    DifferentiatedArguments,
    differentiated_estimator,
    differentiated_settings,
)
from meta_train.estimators.truncated_backprop import backprop_method
from meta_train.problem import UnrolledProblem


def full_backprop(
    problem: UnrolledProblem, **settings: Unpack[DifferentiatedArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; exact for the draws of its episodes.

    Args:
      problem: what to unroll and differentiate.
      **settings: of `DifferentiatedArguments`; ``window`` equals ``length``.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled or
        differentiated.
    """
    checked = differentiated_settings(**settings)
    check_whole_episode("full_backprop", checked.window, checked.length)
    method = backprop_method(problem, checked.window, checked.loss_bound)
    return differentiated_estimator("full_backprop", problem, checked, method)
