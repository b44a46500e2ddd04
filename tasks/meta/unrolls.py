"""The loss of an update rule over a short training run on random quadratics.

    f(x) = ½ Σ_i h_i x_i²,    x_{t+1} = x_t + u(h ∘ x_t + s n_t, …),    L = mean_t f(x_t) / f(x_0)

A batch is a set of starts, curvatures and noises; L is 1 for a rule that does nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Rule = Callable[[jax.Array, Any], tuple[jax.Array, Any]]
"""``rule(gradient, state) -> (update, state)``, on all quadratics of a batch: [B, D]."""


def unrolled_loss(
    rule: Rule,
    state: Any,
    start: jax.Array,
    curvature: jax.Array,
    noise: jax.Array,
) -> jax.Array:
    """L, the mean over the batch. Shapes: [B, D], [B, D], [B, T, D] → []."""

    def value(x: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(curvature * jnp.square(x), axis=1)

    def step(carry: Any, disturbance: jax.Array) -> tuple[Any, jax.Array]:
        x, state = carry
        update, state = rule(curvature * x + disturbance, state)
        return (x + update, state), value(x + update)

    _, values = jax.lax.scan(step, (start, state), jnp.swapaxes(noise, 0, 1))
    return jnp.mean(values / value(start)[None])
