"""The Lorenz system, two of whose constants are learned (Li et al. 2023, arXiv:2304.12180).

    x' = a(y − x),    y' = x(r − z) − y,    z' = xy − bz        by Euler's method
    L_t = (z_t − ẑ_t)²,    θ = (ln a, ln r)

with ẑ of the true constants from the same initial state. The system is chaotic: the loss of a
long episode is rough in θ, and smooth only with noise on θ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problem import Data, Theta, UnrolledProblem

TRUE_A, TRUE_R, B = 10.0, 28.0, 8 / 3
TRUE_THETA = (float(np.log(TRUE_A)), float(np.log(TRUE_R)))
INITIAL_THETA = (3.116, 3.7)
START = (1.2, 1.3, 1.6)


class LorenzState(NamedTuple):
    """(x, y, z) with the learned and with the true constants: [3] each."""

    learned: jax.Array
    true: jax.Array


def euler_step(position: jax.Array, a: jax.Array, r: jax.Array, time_step: float) -> jax.Array:
    """(x, y, z) a ``time_step`` later: [3] → [3]."""
    x, y, z = position
    velocity = jnp.stack([a * (y - x), x * (r - z) - y, x * y - B * z])
    return position + time_step * velocity


def lorenz(spread: float = 1.0, time_step: float = 0.005) -> UnrolledProblem:
    """The problem at the top of this file; θ is [2] (`INITIAL_THETA`), optimal at `TRUE_THETA`.

    Args:
      spread: standard deviation of the initial position about `START`, in each coordinate.
      time_step: of Euler's method, in the unit of the system.

    Data are not used.

    Raises:
      ValueError: ``time_step`` is not positive.
    """
    if not time_step > 0:
        raise ValueError(f"`time_step`={time_step}: must be positive")

    def init(key: jax.Array, theta: Theta) -> LorenzState:
        start = jnp.asarray(START, theta.dtype)
        start = start + spread * jax.random.normal(key, (3,), theta.dtype)
        return LorenzState(start, start)

    def step(
        key: jax.Array, theta: Theta, state: LorenzState, data: Data
    ) -> tuple[LorenzState, jax.Array]:
        del key, data
        a, r = jnp.exp(theta)
        learned = euler_step(state.learned, a, r, time_step)
        true = euler_step(state.true, jnp.asarray(TRUE_A), jnp.asarray(TRUE_R), time_step)
        return LorenzState(learned, true), (learned[2] - true[2]) ** 2

    return UnrolledProblem(init, step)
