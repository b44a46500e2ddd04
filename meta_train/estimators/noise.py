"""Noise on θ: its scale σ, and its draws.

ε = σ z,    z ~ N(0, I);    its score, ∇_ε log of its density negated, is ε/σ² = z/σ

σ is a number, a pytree of numbers that is a prefix of θ, or a function from the number of
windows so far to one of these.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problem import Theta

Sigma = Any


class SmallSigmaError(ValueError):
    """A σ that is zero in the dtype of θ."""


class Perturbation(NamedTuple):
    """``noise``: ε, added to θ; ``score``: what the loss is credited to, Σ ε/σ². [pairs, …]."""

    noise: Theta
    score: Theta


def check_sigma(sigma: Sigma) -> None:
    """Raise ValueError for a σ, at the first window where it is a schedule, not positive."""
    for leaf in jax.tree.leaves(sigma(jnp.zeros((), jnp.int32)) if callable(sigma) else sigma):
        scalar = not isinstance(leaf, str) and np.shape(leaf) == ()
        number = float(leaf) if scalar else math.nan
        if not (math.isfinite(number) and number > 0):
            shown = repr(leaf) if isinstance(leaf, str) else leaf
            raise ValueError(
                f"`sigma`={shown}: the standard deviation of the noise must be positive and "
                "finite, one number, or one for every leaf of θ"
            )


def sigma_like(sigma: Sigma, windows: jax.Array, theta: Theta) -> Theta:
    """σ of window number ``windows`` as a scalar for every leaf of θ, in its dtype.

    Raises:
      ValueError: the pytree of σ is no prefix of θ.
    """
    now = sigma(windows) if callable(sigma) else sigma

    def cast(scale: Any, leaf: jax.Array) -> jax.Array:
        dtype = jnp.result_type(leaf)
        if not callable(sigma) and not np.asarray(scale).astype(dtype) > 0:
            raise SmallSigmaError(f"`sigma`={scale} is 0 in {dtype}, a dtype of θ; raise it")
        return jnp.asarray(scale, dtype)

    def spread(scale: Any, below: Theta) -> Theta:
        return jax.tree.map(lambda leaf: cast(scale, leaf), below)

    try:
        return jax.tree.map(spread, now, theta)
    except SmallSigmaError:
        raise
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
    """ε = σz and its score z/σ, from z [pairs, …] and σ, both like θ.

    Where a schedule has come to σ = 0 there is no noise, and nothing is credited.
    """

    def score(z: jax.Array, sigma: jax.Array) -> jax.Array:
        return jnp.where(sigma > 0, z / jnp.where(sigma > 0, sigma, 1), 0)

    return Perturbation(
        noise=jax.tree.map(jnp.multiply, normal, scale), score=jax.tree.map(score, normal, scale)
    )
