"""Evolution strategies on whole episodes, antithetic (Salimans et al. 2017, arXiv:1703.03864).

ε ~ N(0, σ²I) every episode;    ĝ = 1/(Nσ²) Σ_i ε⁽ⁱ⁾ L⁽ⁱ⁾

L⁽ⁱ⁾ is the loss of the whole episode, unrolled at θ + ε⁽ⁱ⁾: the window is the episode.
"""

from typing import Unpack

from meta_train.estimators.antithetic import (
    AntitheticArguments,
    antithetic_estimator,
    antithetic_settings,
)
from meta_train.estimators.base import GradientEstimator, check_whole_episode
from meta_train.problem import UnrolledProblem


def full_es(problem: UnrolledProblem, **settings: Unpack[AntitheticArguments]) -> GradientEstimator:
    """The estimator at the top of this file; unbiased for quadratic losses at any σ.

    Args:
      problem: what to unroll; only evaluated forward.
      **settings: of `AntitheticArguments`; ``window`` equals ``length``.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled.
    """
    checked = antithetic_settings(**settings)
    check_whole_episode("full_es", checked.window, checked.length)
    return antithetic_estimator(
        problem, checked, lambda zeros: (), lambda fresh, restart, age, memory: (fresh, memory)
    )
