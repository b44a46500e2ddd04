"""The last loss alone, as a sum over the steps, by telescoping.

    p_t = L_t − L_{t−1},    L_0 = 0,    Σ_{t≤T} p_t = L_T

Every estimator of ∇ Σ_t p_t then is one of ∇ L_T, for any T. It takes losses that can be told
apart from noise: L_t on the same data for the whole episode. A bound is one of L_t, before the
difference: of p_t it would charge a rise in part, and credit the fall in full.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.problem import Data, Theta, UnrolledProblem


class FinalLossState(NamedTuple):
    """The state of the problem itself, and the newest loss."""

    inner: Any
    loss: jax.Array


def final_loss(problem: UnrolledProblem, loss_bound: float | None = None) -> UnrolledProblem:
    """The problem at the top of this file, for L_t of ``problem``, a float32 scalar.

    Args:
      problem: whose last loss is wanted.
      loss_bound: what a finite L_t counts at most. One that is not finite makes p_t so, for
        the estimator to count as diverged.
    """

    def init(key: jax.Array, theta: Theta) -> FinalLossState:
        return FinalLossState(problem.init(key, theta), jnp.zeros((), jnp.float32))

    def step(
        key: jax.Array, theta: Theta, state: FinalLossState, data: Data
    ) -> tuple[FinalLossState, jax.Array]:
        inner, loss = problem.step(key, theta, state.inner, data)
        loss = loss.astype(jnp.float32)
        if loss_bound is not None:
            loss = jnp.where(jnp.isfinite(loss), jnp.minimum(loss, loss_bound), jnp.nan)
        return FinalLossState(inner, loss), loss - state.loss

    def init_of_length(key: jax.Array, theta: Theta, length: jax.Array) -> FinalLossState:
        return FinalLossState(problem.begin(key, theta, length), jnp.zeros((), jnp.float32))

    return UnrolledProblem(init, step, init_of_length)
