"""Test functions of optimization, by https://www.sfu.ca/~ssurjano/optimization.html.

A surface is f(z) ≥ 0 with f(z*) = 0. The task minimises f(Qᵀx), with Q the identity or a random
rotation, from z₀ = z* + r with |r_i| between half of ``spread`` and all of it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform, noisy_family, random_rotation
from tasks.base import Configuration, TaskFamily

NOISE_SCALES = (1e-4, 1e-2)
STYBLINSKI_TANG_MINIMUM = -2.903534027771177  # the least root of 4 z³ − 32 z + 5
STYBLINSKI_TANG_VALUE = -39.16616570377142  # of one coordinate, there


class Surface(NamedTuple):
    """``value(z)`` is f of shape []; ``minimum`` is z* (repeated for every coordinate)."""

    value: Callable[[jax.Array], jax.Array]
    minimum: tuple[float, ...]
    spread: float


def rosenbrock(z: jax.Array) -> jax.Array:
    """Σ 100 (z_{i+1} − z_i²)² + (1 − z_i)²."""
    valley = jnp.square(z[1:] - jnp.square(z[:-1]))
    return jnp.sum(100 * valley + jnp.square(1 - z[:-1]))


def styblinski_tang(z: jax.Array) -> jax.Array:
    """½ Σ (z⁴ − 16 z² + 5 z), less its least value."""
    square = jnp.square(z)
    return jnp.sum(0.5 * (square * square - 16 * square + 5 * z) - STYBLINSKI_TANG_VALUE)


def rastrigin(z: jax.Array) -> jax.Array:
    """Σ z² + 10 (1 − cos 2πz)."""
    return jnp.sum(jnp.square(z) + 10 * (1 - jnp.cos(2 * jnp.pi * z)))


def ackley(z: jax.Array) -> jax.Array:
    """20 (1 − exp(−√(mean z²) / 5)) + e − exp(mean cos 2πz)."""
    distance = jnp.sqrt(jnp.mean(jnp.square(z)) + 1e-12)  # its derivative at 0 is finite
    waves = jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * z)))
    return 20 * (1 - jnp.exp(-distance / 5)) + math.e - waves


def himmelblau(z: jax.Array) -> jax.Array:
    """(z₁² + z₂ − 11)² + (z₁ + z₂² − 7)²: four minima, (3, 2) one of them."""
    return jnp.square(z[0] ** 2 + z[1] - 11) + jnp.square(z[0] + z[1] ** 2 - 7)


def beale(z: jax.Array) -> jax.Array:
    """Σ_k (c_k − z₁ + z₁ z₂ᵏ)² for c = 1.5, 2.25, 2.625: a curved valley to (3, ½)."""
    constants = jnp.array([1.5, 2.25, 2.625], z.dtype)
    powers = jnp.stack([z[1], z[1] ** 2, z[1] ** 3])
    return jnp.sum(jnp.square(constants - z[0] + z[0] * powers))


SURFACES = {
    "rosenbrock": Surface(rosenbrock, (1.0,), 1.0),
    "styblinski_tang": Surface(styblinski_tang, (STYBLINSKI_TANG_MINIMUM,), 1.5),
    "rastrigin": Surface(rastrigin, (0.0,), 1.4),
    "ackley": Surface(ackley, (0.0,), 2.4),
    "himmelblau": Surface(himmelblau, (3.0, 2.0), 2.0),
    "beale": Surface(beale, (3.0, 0.5), 1.0),
}


def identity(key: jax.Array, dimension: int) -> jax.Array:
    """No rotation; shape [D, D]."""
    del key
    return jnp.eye(dimension)


def surface_family(
    name: str,
    surface: str,
    dimension: int,
    rotate: Callable[[jax.Array, int], jax.Array] = random_rotation,
) -> TaskFamily:
    """A surface of the table by name; every task has its own start, noise and rotation."""
    value_of, minimum, spread = SURFACES[surface]

    def sample(key: jax.Array) -> Configuration:
        key_rotation, key_sign, key_distance, key_noise = jax.random.split(key, 4)
        rotation = rotate(key_rotation, dimension)
        least = jnp.resize(jnp.array(minimum), (dimension,))
        sign = jax.random.rademacher(key_sign, (dimension,), jnp.float32)
        distance = jax.random.uniform(key_distance, (dimension,), minval=0.5, maxval=1.0)
        return {
            "rotation": rotation,
            "minimum": rotation @ least,
            "start": rotation @ (least + spread * sign * distance),
            "noise": log_uniform(key_noise, NOISE_SCALES),
        }

    def value(cfg: Configuration, x: Any) -> jax.Array:
        return value_of(cfg["rotation"].T @ x)

    return noisy_family(name, surface.replace("_", " "), dimension, sample, value)
