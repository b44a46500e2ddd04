"""Features of the training loss, from running means of it over several horizons.

Celo's (Moudgil et al. 2025, https://arxiv.org/abs/2501.12670, after VeLO, Metz et al. 2022,
https://arxiv.org/abs/2211.09760): with half-lives h_k log-spaced from 10 to the number of steps,
d_k = exp(−1/h_k), and the loss bounded by twice the largest of the means so far,

    M_k ← d_k M_k + (1−d_k) L,    m_k = M_k/(1 − d_k^t),    n_k = min over time of m_k
    feature k = clip((m_k − n_k)/max(10⁻⁸, m_{k+1} − n_k) − 1, ±1),    0 in the first two steps
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

HORIZONS = 10
SHORTEST = 10.0
LARGEST = 999999999999.0


class LossHistory(NamedTuple):
    """``means``, ``minima`` [10]: M_k, before the correction of its start, and n_k."""

    means: jax.Array
    minima: jax.Array


def no_losses() -> LossHistory:
    """The history before the first loss."""
    return LossHistory(jnp.zeros(HORIZONS), jnp.full(HORIZONS, LARGEST, jnp.float32))


def loss_decays(num_steps: jax.Array) -> jax.Array:
    """d_k for a training of ``num_steps``, float32. Shape [10]."""
    exponents = jnp.linspace(jnp.log10(SHORTEST), jnp.log10(num_steps), HORIZONS)
    return jnp.exp(-(10.0**-exponents))


def add_loss(
    history: LossHistory, loss: jax.Array, step: jax.Array, decays: jax.Array
) -> LossHistory:
    """The history with the loss of one more step, of which ``step`` came before."""
    correction = 1 - decays ** (step + 1.0)
    largest = jnp.where(step == 0, loss, jnp.max(history.means / correction))
    bounded = jnp.minimum(2 * jnp.abs(largest), loss)
    means = history.means * decays + bounded * (1 - decays)
    return LossHistory(means, jnp.minimum(history.minima, means / correction))


def loss_features(history: LossHistory, losses: jax.Array, decays: jax.Array) -> jax.Array:
    """The features at the top of this file, after so many ``losses``. Shape [9]."""
    means = history.means / (1 - decays ** losses.astype(jnp.float32))
    minima = history.minima[:-1]
    share = (means[:-1] - minima) / jnp.maximum(1e-8, means[1:] - minima)
    return jnp.where(losses <= 2, 0.0, jnp.clip(share - 1, -1, 1))
