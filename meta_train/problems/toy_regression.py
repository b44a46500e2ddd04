"""Toy 2-D regression (Vicol et al. 2021, arXiv:2112.13835, section 5): a learning-rate schedule.

    f(x) = √(x₀² + 5) − √5 + sin²(x₁)·exp(−5x₀²) + ¼|x₁ − 100|
    x_t = x_{t−1} − α_t ∇f(x_{t−1}),    α_t = (1 − t/T)e^{θ₀} + (t/T)e^{θ₁},    L_t = f(x_t)

with t counted from 0 in α. The sum of the losses has an optimum in a narrow valley, and a
plateau where the derivative with respect to θ says nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.problem import Data, Theta, UnrolledProblem

INITIAL_THETA = (-4.0, -4.0)
INITIAL_X = (1.0, 1.0)


class ToyState(NamedTuple):
    """x [2]; t, float: inner steps done."""

    x: jax.Array
    t: jax.Array


def toy_loss(x: jax.Array) -> jax.Array:
    """The function f at the top of this file, of x [2]."""
    bumps = jnp.sin(x[1]) ** 2 * jnp.exp(-5 * x[0] ** 2)
    return jnp.sqrt(x[0] ** 2 + 5) - jnp.sqrt(5.0) + bumps + 0.25 * jnp.abs(x[1] - 100)


def toy_regression(length: int = 100) -> UnrolledProblem:
    """The problem at the top of this file, from x_0 = (1, 1).

    θ [2] are the logarithms of the first and the last rate (`INITIAL_THETA`); keys and data
    are not used.

    Args:
      length: T, over which the rate goes from e^{θ₀} to e^{θ₁}; that of the episodes.

    Raises:
      ValueError: ``length`` is below 1.
    """
    if length < 1:
        raise ValueError(f"`length`={length}: must be at least 1 inner step")

    def init(key: jax.Array, theta: Theta) -> ToyState:
        del key, theta
        return ToyState(jnp.asarray(INITIAL_X), jnp.zeros(()))

    def step(
        key: jax.Array, theta: Theta, state: ToyState, data: Data
    ) -> tuple[ToyState, jax.Array]:
        del key, data
        done = state.t / length
        rate = (1 - done) * jnp.exp(theta[0]) + done * jnp.exp(theta[1])
        x = state.x - rate * jax.grad(toy_loss)(state.x)
        return ToyState(x, state.t + 1), toy_loss(x)

    return UnrolledProblem(init, step)
