"""Lower precision: the loss is computed in another dtype than the optimizer works in.

    L(p) = float32(L_low(low(p)))

Parameters, minibatch and configuration are cast; optimizer and gradients stay in the dtype of
the parameters, and the model's state in its own.
"""

import jax
import jax.numpy as jnp

from tasks.augmentations.base import cast_floats, cast_like
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

DTYPES = ("bfloat16", "float16")


def cast(family: TaskFamily, dtype: str) -> TaskFamily:
    """The family at the top of this file."""

    def build(cfg: Configuration) -> Task:
        task, low = family.build(cfg), family.build(cast_floats(cfg, dtype))

        def raised(value: Value, model_state: ModelState) -> Value:
            loss, (after, metrics) = value
            kept = cast_like(after, model_state)
            return loss.astype(jnp.float32), (kept, cast_floats(metrics, jnp.float32))

        def loss(params: Params, model_state: ModelState, key: jax.Array, batch: Batch) -> Value:
            params, batch = cast_floats((params, batch), dtype)
            return raised(low.loss(params, model_state, key, batch), model_state)

        def gradient(
            differentiate: Differentiate,
            params: Params,
            model_state: ModelState,
            key: jax.Array,
            batch: Batch,
        ) -> tuple[Value, Params]:
            lowered, batch = cast_floats((params, batch), dtype)
            value, found = low.value_and_gradient(lowered, model_state, key, batch, differentiate)
            return raised(value, model_state), cast_like(found, params)

        return Task(task.init, loss, gradient)

    return family._replace(build=build)
