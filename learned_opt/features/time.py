"""Features of the time: the same for every parameter, so that they are part of a bias."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

TIMESCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
SHARPNESS = 10.0


def tanh_of_steps(step: jax.Array, timescales: Sequence[float]) -> jax.Array:
    """tanh(t/τ − 1) for every timescale τ, in updates. Shape [timescales]."""
    return jnp.tanh(step.astype(jnp.float32) / jnp.asarray(timescales, jnp.float32) - 1)


def sine_of_steps(step: jax.Array, timescales: Sequence[float]) -> jax.Array:
    """sin(t/(πτ)) for every timescale τ, in updates. Shape [timescales]."""
    return jnp.sin(step.astype(jnp.float32) / (jnp.asarray(timescales, jnp.float32) * np.pi))


def tanh_of_fraction(fraction: jax.Array) -> jax.Array:
    """tanh(10(x − c)) for the nine centres c, of the share x of training done. Shape [9]."""
    return jnp.tanh((fraction - jnp.asarray(FRACTIONS, jnp.float32)) * SHARPNESS)
