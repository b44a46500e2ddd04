"""Reparametrisation: the same function of other coordinates.

    p = s · x,    log s ~ U(log low, log high),    x_0 = p_0/s,    ∇_x L = s · ∇_p L

The optimizer sees x. With one s for all parameters, for each tensor, or for each entry, its
gradients and steps are of other sizes, everywhere or relative to each other.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.augmentations.base import (
    AugmentationError,
    in_coordinates,
    initial_shapes,
    own_key,
)
from tasks.base import Configuration, ModelState, Params, Task, TaskFamily

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def reparametrize(level: str) -> Callable[[TaskFamily, float, float], TaskFamily]:
    """The wrapper whose scales s are drawn per "global", "tensor" or "parameter"."""

    def wrap(family: TaskFamily, low: float, high: float) -> TaskFamily:
        if low > high:
            raise AugmentationError(f"LOW={low} exceeds HIGH={high}")

        def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            bounds = np.log([low, high])
            return jnp.exp(jax.random.uniform(key, shape, minval=bounds[0], maxval=bounds[1]))

        def sample(key: jax.Array) -> Configuration:
            configuration = family.sample(key)
            params = initial_shapes(family, configuration, key)
            scale = _scales(level, own_key(family, key), params, draw)
            return {"task": configuration, "scale": scale}

        return family._replace(sample=sample, build=lambda cfg: _scaled(family, cfg))

    return wrap


def _scales(level: str, key: jax.Array, params: Params, draw: Draw) -> Any:
    """The scales, as a prefix of the parameters."""
    if level == "global":
        return draw(key, ())
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    shapes = [leaf.shape if level == "parameter" else () for leaf in leaves]
    scales = [draw(k, shape) for k, shape in zip(keys, shapes, strict=True)]
    return jax.tree.unflatten(structure, scales)


def _scaled(family: TaskFamily, cfg: Configuration) -> Task:
    task, scale = family.build(cfg["task"]), cfg["scale"]

    def times(params: Params, power: int) -> Params:
        scales = jax.tree.broadcast(scale, params)
        return jax.tree.map(lambda p, s: p * (s**power).astype(p.dtype), params, scales)

    def init(key: jax.Array) -> tuple[Params, ModelState]:
        params, model_state = task.init(key)
        return times(params, -1), model_state

    return Task(init, *in_coordinates(task, lambda params: times(params, 1)))
