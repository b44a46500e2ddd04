"""Quadratics with stated spectra, random rotations and noisy gradients.

    L(x) = ½ (x − x*)ᵀ H (x − x*) / c,    H = Q diag(h) Qᵀ

with c such that L is 1 at the start; a batch is a noise vector n that adds σ nᵀ(x − x*). Unless
another spectrum is asked for, h_i = κ^(−u_i),  u_i ~ U(0, 1).
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tasks.analytic.noisy import log_uniform, noisy_family, random_rotation
from tasks.base import Configuration, TaskFamily
from tasks.catalogue import Grammar

CONDITION_NUMBERS = (1.0, 1e3)  # κ: log-uniform
NOISE_SCALES = (1e-4, 1e-2)  # σ, standard deviation of each entry of the noise: log-uniform
_NAME = re.compile(r"quadratic([1-9]\d*)")

Spectrum = Callable[[jax.Array, jax.Array, int], jax.Array]


def random_spectrum(key: jax.Array, other_key: jax.Array, dimension: int) -> jax.Array:
    """κ^(−u_i), the condition number drawn by the first key; shape [D]."""
    condition = log_uniform(key, CONDITION_NUMBERS)
    return condition ** -jax.random.uniform(other_key, (dimension,))


def quadratic_family(
    name: str,
    dimension: int,
    spectrum: Spectrum = random_spectrum,
    noise: tuple[float, float] = NOISE_SCALES,
) -> TaskFamily:
    """Quadratics of one dimension; every task has its own spectrum, rotation and noise.

    ``spectrum(key, other_key, dimension)`` gives the eigenvalues h; ``noise`` bounds σ.
    """

    def sample(key: jax.Array) -> Configuration:
        keys = jax.random.split(key, 6)
        return {
            "spectrum": spectrum(keys[0], keys[2], dimension),
            "rotation": random_rotation(keys[1], dimension),
            "minimum": jax.random.normal(keys[3], (dimension,)),
            "start": jax.random.normal(keys[4], (dimension,)),
            "noise": log_uniform(keys[5], noise),
        }

    return noisy_family(name, "quadratic", dimension, sample, _value)


def _value(cfg: Configuration, x: Any) -> jax.Array:
    rotated = cfg["rotation"].T @ (x - cfg["minimum"])
    return 0.5 * jnp.sum(cfg["spectrum"] * jnp.square(rotated))


def _family(name: str, download: bool, batch_size: int | None) -> TaskFamily | None:
    del download, batch_size
    match = _NAME.fullmatch(name)
    return quadratic_family(name, int(match[1])) if match else None


GRAMMAR = Grammar(lambda: "``quadraticD`` is of dimension D", _family, sized=False)
