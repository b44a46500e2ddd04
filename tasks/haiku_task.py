"""A task whose loss is computed by Haiku modules."""

from collections.abc import Callable
from typing import Any

import jax

from tasks.base import Batch, Metrics, ModelState, Params, Task, Value

HaikuLoss = Callable[[Batch], tuple[jax.Array, Metrics]]


def haiku_task(loss: HaikuLoss, example: Batch) -> Task:
    """The task of ``loss(batch) -> (scalar, metrics)``, which makes modules and may draw keys.

    ``example`` is a batch of any size, of the shapes that parameters are made for.
    """
    import haiku as hk  # here, for listing tasks needs no Haiku

    network = hk.transform_with_state(loss)

    def value(params: Params, model_state: ModelState, key: jax.Array, batch: Batch) -> Value:
        (scalar, metrics), model_state = network.apply(params, model_state, key, batch)
        return scalar, (model_state, metrics)

    def init(key: jax.Array) -> tuple[Params, Any]:
        return network.init(key, example)

    return Task(init, value)
