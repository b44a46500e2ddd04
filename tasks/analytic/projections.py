"""Losses of random projections aᵀx, A of shape [M, D].

log-sum-exp  f(x) = log mean cosh aᵀx                         convex, least at 0
separable    f(x) = mean log(1 + exp(−aᵀx))                   aᵀx* > 0 all: least at infinity
sparse       f(x) = ½ mean (aᵀ(x − x*))² + λ Σ (√(x² + ε²) − ε)    x* sparse (Tibshirani 1996)

The entries of A are N(0, 1); ε is small, so that ∇f is smooth.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform, noisy_family
from tasks.base import Configuration, TaskFamily

NOISE_SCALES = (1e-4, 1e-2)
PROJECTIONS = 4
PENALTY, SMOOTHING, NONZERO = 0.02, 1e-2, 0.2

Draw = Callable[[jax.Array, int], jax.Array]


def _projection_family(
    name: str,
    architecture: str,
    dimension: int,
    value: Callable[[Configuration, Any], jax.Array],
    minimum: Draw,
    start: Draw,
) -> TaskFamily:
    def sample(key: jax.Array) -> Configuration:
        key_design, key_minimum, key_start, key_noise = jax.random.split(key, 4)
        return {
            "design": jax.random.normal(key_design, (PROJECTIONS * dimension, dimension)),
            "minimum": minimum(key_minimum, dimension),
            "start": start(key_start, dimension),
            "noise": log_uniform(key_noise, NOISE_SCALES),
        }

    return noisy_family(name, architecture, dimension, sample, value)


def log_sum_exp_family(name: str, dimension: int) -> TaskFamily:
    """The convex loss; every task has its own projections and start."""

    def value(cfg: Configuration, x: Any) -> jax.Array:
        slopes = cfg["design"] @ x * dimension**-0.5
        both = jnp.concatenate([slopes, -slopes])
        return jax.nn.logsumexp(both) - jnp.log(both.size)

    return _projection_family(name, "log-sum-exp", dimension, value, _zeros, _wide)


def separable_family(name: str, dimension: int) -> TaskFamily:
    """Logistic loss of examples that the planted vector separates; starts at log 2."""

    def value(cfg: Configuration, x: Any) -> jax.Array:
        label = jnp.sign(cfg["design"] @ cfg["minimum"])
        return jnp.mean(jax.nn.softplus(-label * (cfg["design"] @ x)))

    return _projection_family(name, "separable logistic", dimension, value, _normal, _zeros)


def sparse_family(name: str, dimension: int) -> TaskFamily:
    """Least squares with a smoothed absolute value as the penalty."""

    def value(cfg: Configuration, x: Any) -> jax.Array:
        error = cfg["design"] @ (x - cfg["minimum"])
        absolute = jnp.sqrt(jnp.square(x) + SMOOTHING**2) - SMOOTHING
        return 0.5 * jnp.mean(jnp.square(error)) + PENALTY * jnp.sum(absolute)

    return _projection_family(name, "sparse regression", dimension, value, _sparse, _normal)


def _zeros(key: jax.Array, dimension: int) -> jax.Array:
    del key
    return jnp.zeros(dimension)


def _normal(key: jax.Array, dimension: int) -> jax.Array:
    return jax.random.normal(key, (dimension,))


def _wide(key: jax.Array, dimension: int) -> jax.Array:
    return 3 * _normal(key, dimension)


def _sparse(key: jax.Array, dimension: int) -> jax.Array:
    key_place, key_value = jax.random.split(key)
    kept = jax.random.bernoulli(key_place, NONZERO, (dimension,))
    return jnp.where(kept, _normal(key_value, dimension), 0.0)
