"""Drift: the unrolled problem whose gradient, and whose truncation bias, are known.

    s_t = s_{t−1} + θ,    s_0 = 0,    L_t = ⟨c, s_{t−1}⟩

Linear in θ, so that every estimator has the closed forms below whatever its noise.
"""

import jax
import jax.numpy as jnp

from meta_train.problem import Data, Theta, UnrolledProblem


def drift(direction: jax.Array) -> UnrolledProblem:
    """The problem at the top of this file, for c = ``direction`` [P].

    θ and the state are [P]; any θ is a good start. Keys and data are not used.
    """

    def init(key: jax.Array, theta: Theta) -> jax.Array:
        del key
        return jnp.zeros_like(theta)

    def step(
        key: jax.Array, theta: Theta, state: jax.Array, data: Data
    ) -> tuple[jax.Array, jax.Array]:
        del key, data
        return state + theta, jnp.dot(direction, state)

    return UnrolledProblem(init, step)


def drift_gradient(direction: jax.Array, length: int) -> jax.Array:
    """∇ Σ_{t≤T} L_t = c·T(T−1)/2, at every θ. Shapes: [P] → [P]."""
    return direction * (length * (length - 1) / 2)


def drift_truncated_gradient(direction: jax.Array, length: int, window: int) -> jax.Array:
    """What an estimator sees that looks no further back than its window: c·T(W−1)/2.

    Shapes: [P] → [P].
    """
    return direction * (length * (window - 1) / 2)
