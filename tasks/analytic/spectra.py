"""Spectra of quadratics: the eigenvalues h_1 … h_D, the largest of them 1; shape [D]."""

import jax
import jax.numpy as jnp

WORST_CONDITION = 1e6
CLUSTER = 1e-3
RANK_SHARE = 4


def power_law(key: jax.Array, other_key: jax.Array, dimension: int) -> jax.Array:
    """h_i = i⁻¹, as found of the Hessians of networks."""
    del key, other_key
    return 1 / jnp.arange(1, dimension + 1, dtype=jnp.float32)


def two_clusters(key: jax.Array, other_key: jax.Array, dimension: int) -> jax.Array:
    """The first half of the eigenvalues is 1, the others are `CLUSTER`."""
    del key, other_key
    return jnp.where(jnp.arange(dimension) < dimension // 2, 1.0, CLUSTER)


def ill_conditioned(key: jax.Array, other_key: jax.Array, dimension: int) -> jax.Array:
    """Logarithms evenly spaced from 1 down to 1 / `WORST_CONDITION`."""
    del key, other_key
    return WORST_CONDITION ** -jnp.linspace(0.0, 1.0, dimension)


def low_rank(key: jax.Array, other_key: jax.Array, dimension: int) -> jax.Array:
    """One in `RANK_SHARE` is 1 and the others are 0: a flat valley."""
    del key, other_key
    return jnp.where(jnp.arange(dimension) * RANK_SHARE < dimension, 1.0, 0.0)
