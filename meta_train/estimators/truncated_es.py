"""Truncated evolution strategies, antithetic (Metz et al. 2019, arXiv:1810.10180).

ε_t ~ N(0, σ²I) every window;    ĝ_t = 1/(Nσ²) Σ_i ε_t⁽ⁱ⁾ L_t⁽ⁱ⁾

Only the noise of the window itself is credited: what it does to later windows is lost, so
the estimate is biased towards short horizons. Every particle goes on from its own state.
"""

from typing import Unpack

from meta_train.estimators.antithetic import (
    AntitheticArguments,
    antithetic_estimator,
    antithetic_settings,
)
from meta_train.estimators.base import GradientEstimator
from meta_train.problem import UnrolledProblem


def truncated_es(
    problem: UnrolledProblem, **settings: Unpack[AntitheticArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; biased unless a window is an episode.

    Args:
      problem: what to unroll; only evaluated forward.
      **settings: of `AntitheticArguments`.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled.
    """
    return antithetic_estimator(
        problem,
        antithetic_settings(**settings),
        lambda zeros: (),
        lambda fresh, restart, age, memory: (fresh, memory),
    )
