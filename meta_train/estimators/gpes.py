"""Generalized persistent evolution strategies (Li et al. 2023, arXiv:2304.12180, section 3).

ε_j ~ N(0, σ²I) every K inner steps;    ξ_t = Σ of the ε_j drawn in the episode so far
ĝ_t = 1/(Nσ²) Σ_i ξ_t⁽ⁱ⁾ L_t⁽ⁱ⁾,    L_t⁽ⁱ⁾ the loss of window t unrolled at θ + the newest ε_j⁽ⁱ⁾

K = W is PES; K ≥ T is NRES.
"""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from meta_train.estimators.antithetic import (
    AntitheticArguments,
    antithetic_estimator,
    antithetic_settings,
)
from meta_train.estimators.base import GradientEstimator, check_count, choose_rows
from meta_train.estimators.noise import Perturbation
from meta_train.estimators.pes import accumulate
from meta_train.problem import Theta, UnrolledProblem


class NoiseMemory(NamedTuple):
    """``noise``: the newest ε; ``accumulator``: Σ of the scores of the episode. [pairs, …]."""

    noise: Theta
    accumulator: Theta


def gpes(
    problem: UnrolledProblem, *, noise_period: int, **settings: Unpack[AntitheticArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; unbiased for quadratic losses at any σ.

    Args:
      problem: what to unroll; only evaluated forward.
      noise_period: K, inner steps between two draws of noise, a multiple of the window.
      **settings: of `AntitheticArguments`.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled.
    """
    checked = antithetic_settings(**settings)
    check_count("noise_period", noise_period, "inner step")
    if noise_period % checked.window:
        raise ValueError(
            f"`noise_period`={noise_period} is no multiple of `window`={checked.window}; noise is "
            "drawn at the beginning of windows"
        )

    def perturb(
        fresh: Perturbation, restart: jax.Array, age: jax.Array, memory: NoiseMemory
    ) -> tuple[Perturbation, NoiseMemory]:
        draw = age % noise_period == 0  # an episode begins at age 0
        nothing = jax.tree.map(jnp.zeros_like, fresh.score)
        memory = NoiseMemory(
            noise=choose_rows(draw, fresh.noise, memory.noise),
            accumulator=accumulate(
                memory.accumulator, restart, choose_rows(draw, fresh.score, nothing)
            ),
        )
        return Perturbation(*memory), memory

    return antithetic_estimator(problem, checked, lambda zeros: NoiseMemory(zeros, zeros), perturb)
