"""Noise on θ: its scale σ, and its draws.

ε = σ z,    z ~ N(0, I);    its score, ∇_ε log of its density negated, is ε/σ² = z/σ

σ is a number, a pytree of numbers that is a prefix of θ, or a function from the number of
windows so far to one of these.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.problem import Theta

Sigma = Any


class Perturbation(NamedTuple):
    """``noise``: ε, added to θ; ``score``: what the loss is credited to, Σ ε/σ². [pairs, …]."""

    noise: Theta
    score: Theta


def check_sigma(sigma: Sigma) -> None:
    """Raise ValueError for a σ, at the first window where it is a schedule, not positive."""
    for leaf in jax.tree.leaves(sigma(jnp.zeros((), jnp.int32)) if callable(sigma) else sigma):
        if jnp.ndim(leaf) or not (math.isfinite(leaf) and leaf > 0):
            raise ValueError(
                f"`sigma`={leaf}: the standard deviation of the noise must be positive and finite, "
                "one number, or one for every leaf of θ"
            )


def sigma_like(sigma: Sigma, windows: jax.Array, theta: Theta) -> Theta:
    """σ of window number ``windows`` as a scalar for every leaf of θ, in its dtype.

    Raises:
      ValueError: the pytree of σ is no prefix of θ.
    """
    now = sigma(windows) if callable(sigma) else sigma

    def spread(scale: Any, below: Theta) -> Theta:
        return jax.tree.map(lambda leaf: jnp.asarray(scale, jnp.result_type(leaf)), below)

    try:
        return jax.tree.map(spread, now, theta)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`sigma` with the structure {jax.tree.structure(now)} is no prefix of θ, "
            f"{jax.tree.structure(theta)}"
        ) from error


def pair_keys(key: jax.Array, pairs: int) -> jax.Array:
    """One key a pair, the same whatever the number of pairs and devices. Shape [pairs]."""
    return jax.vmap(lambda pair: jax.random.fold_in(key, pair))(jnp.arange(pairs))


def sample_normal(keys: jax.Array, theta: Theta) -> Theta:
    """Draw z ~ N(0, I) for every key: like θ with a leading axis [pairs]."""
    leaves, treedef = jax.tree.flatten(theta)

    def one(key: jax.Array) -> list[jax.Array]:
        keys = jax.random.split(key, max(len(leaves), 1))
        return [
            jax.random.normal(k, jnp.shape(leaf), jnp.result_type(leaf))
            for k, leaf in zip(keys, leaves, strict=False)
        ]

    return jax.tree.unflatten(treedef, jax.vmap(one)(keys))


def perturbation(normal: Theta, scale: Theta) -> Perturbation:
    """ε = σz and its score z/σ, from z [pairs, …] and σ, both like θ."""
    return Perturbation(
        noise=jax.tree.map(jnp.multiply, normal, scale),
        score=jax.tree.map(jnp.divide, normal, scale),
    )
