"""Features of a whole tensor, for networks that run once a tensor."""

import jax
import jax.numpy as jnp


def log_magnitude(value: jax.Array) -> jax.Array:
    """log(|x| + 10⁻⁸), clipped to ±5."""
    return jnp.clip(jnp.log(1e-8 + jnp.abs(value)), -5, 5)


def mean_and_variance(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of all entries, scalars."""
    mean = jnp.mean(values)
    return mean, jnp.mean(jnp.square(values - mean))


def norm(values: jax.Array) -> jax.Array:
    """The Euclidean norm of all entries, a scalar; 0 has the gradient 0."""
    square = jnp.sum(jnp.square(values))
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def is_rank(rank: int, values: jax.Array) -> jax.Array:
    """1 for a tensor of that rank, else −1."""
    return jnp.asarray(1.0 if values.ndim == rank else -1.0)
