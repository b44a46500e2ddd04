"""Persistent evolution strategies (Vicol, Metz, Sohl-Dickstein 2021, arXiv:2112.13835).

ε_τ ~ N(0, σ²I) every window;    ξ_t = Σ_{τ≤t} ε_τ over the windows of the episode
ĝ_t = 1/(Nσ²) Σ_i ξ_t⁽ⁱ⁾ L_t⁽ⁱ⁾,    L_t⁽ⁱ⁾ the loss of window t unrolled at θ + ε_t⁽ⁱ⁾
"""

from typing import Unpack

import jax
import jax.numpy as jnp

from meta_train.estimators.antithetic import (
    AntitheticArguments,
    antithetic_estimator,
    antithetic_settings,
)
from meta_train.estimators.base import GradientEstimator, choose_rows
from meta_train.estimators.noise import Perturbation
from meta_train.problem import Theta, UnrolledProblem


def pes(problem: UnrolledProblem, **settings: Unpack[AntitheticArguments]) -> GradientEstimator:
    """The estimator at the top of this file; unbiased for quadratic losses at any σ.

    Args:
      problem: what to unroll; only evaluated forward.
      **settings: of `AntitheticArguments`.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled.
    """

    def perturb(
        fresh: Perturbation, restart: jax.Array, age: jax.Array, accumulator: Theta
    ) -> tuple[Perturbation, Theta]:
        del age
        accumulator = accumulate(accumulator, restart, fresh.score)
        return Perturbation(fresh.noise, accumulator), accumulator

    return antithetic_estimator(
        problem, antithetic_settings(**settings), lambda zeros: zeros, perturb
    )


def accumulate(accumulator: Theta, restart: jax.Array, score: Theta) -> Theta:
    """Σ of scores over the windows of an episode, [pairs, …]; zero before its first."""
    return jax.tree.map(jnp.add, past_score(accumulator, restart), score)


def past_score(accumulator: Theta, restart: jax.Array) -> Theta:
    """What of Σ is of the episode at hand: nothing where one begins."""
    return choose_rows(restart, jax.tree.map(jnp.zeros_like, accumulator), accumulator)
