"""Noise-reuse evolution strategies (Li et al. 2023, arXiv:2304.12180), also ES-Single
(Vicol et al. 2023).

ε ~ N(0, σ²I) once an episode, kept for all its windows;    ĝ_t = 1/(Nσ²) Σ_i ε⁽ⁱ⁾ L_t⁽ⁱ⁾
"""

from typing import Unpack

import jax

from meta_train.estimators.antithetic import (
    AntitheticArguments,
    antithetic_estimator,
    antithetic_settings,
)
from meta_train.estimators.base import GradientEstimator, choose_rows
from meta_train.estimators.noise import Perturbation
from meta_train.problem import UnrolledProblem


def nres(problem: UnrolledProblem, **settings: Unpack[AntitheticArguments]) -> GradientEstimator:
    """The estimator at the top of this file; unbiased for quadratic losses at any σ.

    Args:
      problem: what to unroll; only evaluated forward.
      **settings: of `AntitheticArguments`; ``length`` is not None.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled.
    """
    checked = antithetic_settings(**settings)
    if checked.length is None:
        raise ValueError(
            "`length`=None never restarts, and `nres` draws noise only where an episode begins; "
            "give a `length`, or use `pes` or `gpes`"
        )

    def perturb(
        fresh: Perturbation, restart: jax.Array, age: jax.Array, kept: Perturbation
    ) -> tuple[Perturbation, Perturbation]:
        del age
        kept = choose_rows(restart, fresh, kept)
        return kept, kept

    return antithetic_estimator(problem, checked, lambda zeros: Perturbation(zeros, zeros), perturb)
