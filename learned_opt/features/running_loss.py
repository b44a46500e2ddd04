"""The loss against its own recent past (Metz et al. 2020, https://arxiv.org/abs/2009.11243).

    M ← βM + (1−β)L,    S ← βS + (1−β)(M − L)²,    feature = clip((L − M̂)/√(Ŝ + 10⁻⁸), ±5)

M̂ = M/(1 − β^t) and Ŝ likewise; both are 0 before the first loss.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

EPSILON = 1e-8


class RunningLoss(NamedTuple):
    """M, S and the number t of losses so far, scalars."""

    mean: jax.Array
    variance: jax.Array
    losses: jax.Array


def no_loss() -> RunningLoss:
    """Before the first loss."""
    return RunningLoss(jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))


def with_loss(before: RunningLoss, loss: jax.Array, decay: float) -> RunningLoss:
    """M and S with one more loss."""
    mean = decay * before.mean + (1 - decay) * loss
    variance = decay * before.variance + (1 - decay) * jnp.square(mean - loss)
    return RunningLoss(mean, variance, before.losses + 1)


def corrected_mean(running: RunningLoss, decay: float) -> jax.Array:
    """M̂; 0 before the first loss."""
    return running.mean * _correction(running, decay)


def standardized(running: RunningLoss, loss: jax.Array, decay: float) -> jax.Array:
    """The feature at the top of this file."""
    variance = running.variance * _correction(running, decay)
    distance = loss - corrected_mean(running, decay)
    return jnp.clip(distance * jax.lax.rsqrt(variance + EPSILON), -5, 5)


def _correction(running: RunningLoss, decay: float) -> jax.Array:
    return 1 / jnp.maximum(1 - decay ** running.losses.astype(jnp.float32), EPSILON)
