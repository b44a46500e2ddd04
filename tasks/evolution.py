"""Training by evolution strategies (Salimans et al. 2017), for tasks of any kind.

    g = mean over pairs of  ε [L(p + σε) − L(p − σε)] / 2σ,    ε ~ N(0, I)

An unbiased estimate of ∇ E L(p + σε). The loss stays L.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from tasks.base import Batch, Differentiate, ModelState, Params, Task, Value


def evolved(task: Task, sigma: jax.Array | float, pairs: int) -> Task:
    """The task with g as the gradient of training; ``sigma`` may be traced.

    ``differentiate`` sees L(p₀) + gᵀ(p − p₀), whose gradient is g without one of L.
    """

    def gradient(
        differentiate: Differentiate,
        params: Params,
        model_state: ModelState,
        key: jax.Array,
        batch: Batch,
    ) -> tuple[Value, Params]:
        key_loss, key_noise = jax.random.split(key)
        centre, unravel = ravel_pytree(params)
        noise = jax.random.normal(key_noise, (pairs, centre.size), centre.dtype)

        def surrogate(moving: Params, state: ModelState, key: jax.Array, batch: Batch) -> Value:
            def at(point: jax.Array) -> jax.Array:
                return task.loss(unravel(point), state, key, batch)[0]

            points = centre[None, None] + sigma * jnp.stack([noise, -noise])
            plus, minus = jax.vmap(jax.vmap(at))(points)
            estimate = ((plus - minus) / (2 * sigma)) @ noise / pairs
            value, aux = task.loss(unravel(centre), state, key, batch)
            gap: Any = optax.tree.sub(moving, unravel(centre))
            return value + optax.tree.vdot(unravel(estimate), gap), aux

        return differentiate(surrogate)(params, model_state, key_loss, batch)

    return task._replace(gradient=gradient)
