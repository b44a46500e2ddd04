"""A linear system with a quadratic loss: quadratic in the θ of every step.

    s_t = A s_{t−1} + θ,    L_t = ½‖s_t‖²
    s_t = Aᵗ s_0 + B_t θ,   B_t = Σ_{k<t} Aᵏ,    ∇ Σ_t L_t = Σ_t B_tᵀ s_t

Antithetic evolution strategies are unbiased on it at every σ.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from meta_train.problem import Data, Theta, UnrolledProblem


def quadratic(matrix: jax.Array, start: jax.Array) -> UnrolledProblem:
    """The problem at the top of this file, for A = ``matrix`` [P, P] and s_0 = ``start`` [P].

    θ is any pytree of P numbers in all, used in the order of its leaves; any θ is a good
    start. Keys and data are not used.

    Raises:
      ValueError: the shapes do not agree.
    """
    if jnp.shape(matrix) != 2 * jnp.shape(start) or jnp.ndim(start) != 1:
        raise ValueError(
            f"`matrix` has shape {jnp.shape(matrix)} and `start` {jnp.shape(start)}; they must be "
            "[P, P] and [P]"
        )

    def init(key: jax.Array, theta: Theta) -> jax.Array:
        del key, theta
        return jnp.asarray(start)

    def step(
        key: jax.Array, theta: Theta, state: jax.Array, data: Data
    ) -> tuple[jax.Array, jax.Array]:
        del key, data
        state = jnp.asarray(matrix) @ state + ravel_pytree(theta)[0]
        return state, 0.5 * jnp.dot(state, state)

    return UnrolledProblem(init, step)


def quadratic_gradient(
    matrix: np.ndarray, start: np.ndarray, theta: np.ndarray, length: int
) -> np.ndarray:
    """∇ Σ_{t≤T} L_t by the closed form at the top of this file, in float64: [P]."""
    matrix, start, theta = (np.asarray(x, np.float64) for x in (matrix, start, theta))
    power = np.eye(len(start))
    powers_before = np.zeros_like(power)
    gradient = np.zeros_like(start)
    for _ in range(length):
        powers_before = powers_before + power
        power = matrix @ power
        gradient = gradient + powers_before.T @ (power @ start + powers_before @ theta)
    return gradient
