"""Augmentations of the gradient that training sees.

    scale_gradient   L,      g = c ∇L
    scale_loss       c L,    g = c ∇L
    delay            L,      g_t = (∇L)_{t−K}, and 0 in the first K steps

The loss of the first and the last is untouched: the meta-loss and its derivative stay true.
"""

import jax
import jax.numpy as jnp

from tasks.base import (
    Batch,
    Configuration,
    Differentiate,
    ModelState,
    Params,
    Task,
    TaskFamily,
    Value,
)


def scale_gradient(family: TaskFamily, factor: float) -> TaskFamily:
    """The gradient times ``factor``, the loss as it is."""

    def build(cfg: Configuration) -> Task:
        task = family.build(cfg)

        def gradient(
            differentiate: Differentiate,
            params: Params,
            model_state: ModelState,
            key: jax.Array,
            batch: Batch,
        ) -> tuple[Value, Params]:
            value, found = task.value_and_gradient(params, model_state, key, batch, differentiate)
            return value, jax.tree.map(lambda g: factor * g, found)

        return task._replace(gradient=gradient)

    return family._replace(build=build)


def scale_loss(family: TaskFamily, factor: float) -> TaskFamily:
    """The loss times ``factor``, and so its gradient and the unit that it is bounded in."""

    def build(cfg: Configuration) -> Task:
        task = family.build(cfg)

        def loss(params: Params, model_state: ModelState, key: jax.Array, batch: Batch) -> Value:
            value, aux = task.loss(params, model_state, key, batch)
            return factor * value, aux

        def gradient(
            differentiate: Differentiate,
            params: Params,
            model_state: ModelState,
            key: jax.Array,
            batch: Batch,
        ) -> tuple[Value, Params]:
            (value, aux), found = task.value_and_gradient(
                params, model_state, key, batch, differentiate
            )
            return (factor * value, aux), jax.tree.map(lambda g: factor * g, found)

        return Task(task.init, loss, gradient)

    metadata = family.metadata
    return family._replace(
        build=build, metadata=metadata._replace(initial_loss=factor * metadata.initial_loss)
    )


def delay(family: TaskFamily, steps: int) -> TaskFamily:
    """The gradient of ``steps`` steps ago, as of a slow worker.

    The model state keeps the newest ``steps`` gradients, [steps, …] each, in a ring.
    """

    def build(cfg: Configuration) -> Task:
        task = family.build(cfg)

        def init(key: jax.Array) -> tuple[Params, ModelState]:
            params, model_state = task.init(key)
            ring = jax.tree.map(lambda p: jnp.zeros((steps, *p.shape), p.dtype), params)
            return params, {"task": model_state, "ring": ring, "oldest": jnp.zeros((), jnp.int32)}

        def loss(params: Params, state: ModelState, key: jax.Array, batch: Batch) -> Value:
            value, (inner, metrics) = task.loss(params, state["task"], key, batch)
            return value, ({**state, "task": inner}, metrics)

        def gradient(
            differentiate: Differentiate,
            params: Params,
            state: ModelState,
            key: jax.Array,
            batch: Batch,
        ) -> tuple[Value, Params]:
            (value, (inner, metrics)), newest = task.value_and_gradient(
                params, state["task"], key, batch, differentiate
            )
            place = state["oldest"]
            due = jax.tree.map(lambda ring: ring[place], state["ring"])
            ring = jax.tree.map(lambda ring, g: ring.at[place].set(g), state["ring"], newest)
            after = {"task": inner, "ring": ring, "oldest": (place + 1) % steps}
            return (value, (after, metrics)), due

        return Task(init, loss, gradient)

    return family._replace(build=build)
