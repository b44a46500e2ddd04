"""Low-rank problems with a planted solution: a quartic loss without a convex valley.

factorisation    f(U, V) = ½ ‖U Vᵀ − M‖²,  M = U* V*ᵀ           [N, R] and [M, R]
phase retrieval  f(x) = ¼ mean ((aᵀx)² − (aᵀx*)²)²              (Candès et al. 2015)

Both start nearer 0 than the solution is.
"""

from typing import Any

import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform, noisy_family
from tasks.base import Configuration, TaskFamily

NOISE_SCALES = (1e-4, 1e-2)
START_SCALE = 0.3
MEASUREMENTS = 6


def factorisation_family(name: str, rows: int, columns: int, rank: int) -> TaskFamily:
    """Matrices of a rank; every task has its own factors, start and noise."""
    shapes = {"left": (rows, rank), "right": (columns, rank)}

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        return {side: jax.random.normal(keys[side], shape) for side, shape in shapes.items()}

    def sample(key: jax.Array) -> Configuration:
        key_minimum, key_start, key_noise = jax.random.split(key, 3)
        return {
            "minimum": draw(key_minimum),
            "start": jax.tree.map(lambda x: START_SCALE * x, draw(key_start)),
            "noise": log_uniform(key_noise, NOISE_SCALES),
        }

    def value(cfg: Configuration, x: Any) -> jax.Array:
        error = x["left"] @ x["right"].T - cfg["minimum"]["left"] @ cfg["minimum"]["right"].T
        return 0.5 * jnp.sum(jnp.square(error))

    return noisy_family(name, "matrix factorisation", (rows + columns) * rank, sample, value)


def phase_retrieval_family(name: str, dimension: int) -> TaskFamily:
    """A vector from the squares of `MEASUREMENTS` times as many random projections."""

    def sample(key: jax.Array) -> Configuration:
        key_design, key_minimum, key_start, key_noise = jax.random.split(key, 4)
        return {
            "design": jax.random.normal(key_design, (MEASUREMENTS * dimension, dimension)),
            "minimum": _unit(key_minimum, dimension),
            "start": START_SCALE * _unit(key_start, dimension),
            "noise": log_uniform(key_noise, NOISE_SCALES),
        }

    def value(cfg: Configuration, x: Any) -> jax.Array:
        error = jnp.square(cfg["design"] @ x) - jnp.square(cfg["design"] @ cfg["minimum"])
        return 0.25 * jnp.mean(jnp.square(error))

    return noisy_family(name, "phase retrieval", dimension, sample, value)


def _unit(key: jax.Array, dimension: int) -> jax.Array:
    drawn = jax.random.normal(key, (dimension,))
    return drawn / jnp.linalg.norm(drawn)
