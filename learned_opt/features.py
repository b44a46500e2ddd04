"""Input features of per-parameter update rules: pure functions of one tensor."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

NORMALIZATION_EPSILON = 1e-5
CHUNK = 16_384  # columns; the hidden layers of a chunk stay in a core's cache


def update_momenta(momenta: jax.Array, gradient: jax.Array, decays: ArrayLike) -> jax.Array:
    """The step m ← βm + (1−β)g for every decay β, without bias correction.

    Shapes: momenta [decays, *shape], gradient [*shape], decays [decays].
    """
    beta = jnp.asarray(decays).reshape(-1, *[1] * gradient.ndim)
    return beta * momenta + (1 - beta) * gradient[None]


def time_features(step: jax.Array, timescales: ArrayLike) -> jax.Array:
    """tanh(t/τ − 1) for every timescale τ; the same for every parameter. Shape [timescales]."""
    return jnp.tanh(step / jnp.asarray(timescales) - 1)


def inverse_root_mean_square(features: jax.Array) -> jax.Array:
    """1 / RMS of each row over the whole tensor. Shapes: [rows, n] → [rows]."""
    return jax.lax.rsqrt(jnp.mean(jnp.square(features), axis=1) + NORMALIZATION_EPSILON)


def map_columns(
    function: Callable[..., jax.Array], arrays: Sequence[jax.Array], chunk: int = CHUNK
) -> jax.Array:
    """``function(*arrays)`` for a function that treats every column alike, a chunk at a time.

    Arrays have shape [..., n] and the result [..., n]: memory for what the function
    makes in between is bounded by the chunk, not by n.
    """
    columns = arrays[0].shape[-1]
    whole = columns // chunk
    if whole == 0 or columns == chunk:
        return function(*arrays)

    def one(index: jax.Array) -> jax.Array:
        return function(
            *(jax.lax.dynamic_slice_in_dim(a, index * chunk, chunk, axis=-1) for a in arrays)
        )

    mapped = jnp.moveaxis(jax.lax.map(one, jnp.arange(whole)), 0, -2)
    head = mapped.reshape((*mapped.shape[:-2], whole * chunk))
    if whole * chunk == columns:
        return head
    tail = function(*(a[..., whole * chunk :] for a in arrays))
    return jnp.concatenate([head, tail], axis=-1)
