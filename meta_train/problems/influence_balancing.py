"""Influence balancing (Tallec and Ollivier 2017, arXiv:1702.05043; Vicol et al. 2021).

    s_t = A s_{t−1} + θ·sign,    A = ½I + ½·superdiagonal,    L_t = ½(s_t[0] − 1)²

θ acts on all n entries; its influence on entry i reaches entry 0 after i steps. The first
``positive`` entries push s[0] up, the others down, and those prevail in the end: an estimator
that sees too few steps walks the wrong way.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problem import Data, Theta, UnrolledProblem

INITIAL_THETA = 0.5


class InfluenceState(NamedTuple):
    """s [n]; time, int32: inner steps done."""

    s: jax.Array
    time: jax.Array


def influence_balancing(n: int = 23, positive: int = 10, *, loss_every: int = 1) -> UnrolledProblem:
    """The problem at the top of this file, from s_0 = 1; θ is a scalar (`INITIAL_THETA`).

    Args:
      n: entries of s.
      positive: the first of them, whose sign is +1.
      loss_every: L_t counts at the multiples of this, and is 0 between; the loss "at the end
        of the window", where it is W.

    Keys and data are not used.

    Raises:
      ValueError: an argument is out of its range.
    """
    if not 0 <= positive <= n:
        raise ValueError(f"`positive`={positive}: must be between 0 and `n`={n}, the entries")
    if loss_every < 1:
        raise ValueError(f"`loss_every`={loss_every}: must be at least 1 inner step")
    matrix = 0.5 * np.eye(n) + 0.5 * np.eye(n, k=1)
    sign = np.where(np.arange(n) < positive, 1.0, -1.0)

    def init(key: jax.Array, theta: Theta) -> InfluenceState:
        del key, theta
        return InfluenceState(jnp.ones(n), jnp.zeros((), jnp.int32))

    def step(
        key: jax.Array, theta: Theta, state: InfluenceState, data: Data
    ) -> tuple[InfluenceState, jax.Array]:
        del key, data
        s = jnp.asarray(matrix, state.s.dtype) @ state.s
        s = s + theta * jnp.asarray(sign, s.dtype)
        time = state.time + 1
        loss = jnp.where(time % loss_every == 0, 0.5 * (s[0] - 1) ** 2, 0)
        return InfluenceState(s, time), loss

    return UnrolledProblem(init, step)


def optimal_theta(n: int = 23, positive: int = 10) -> float:
    """θ* = 1/(2·Σ sign): there the state comes to rest with s[0] = 1. Infinite if Σ sign = 0.

    At rest s_i − s_{i+1} = 2θ·sign_i with s_n = 0, so s[0] = 2θ·Σ sign.
    """
    total = 2 * (2 * positive - n)
    return 1 / total if total else float("inf")
