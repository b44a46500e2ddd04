"""Families of functions with noisy gradients, in units of their loss at the start.

    L(x) = f(x) / f(x₀) + σ nᵀ(x − x*),    n ~ N(0, 1) the batch; scored without noise

The gradient of the noise is σ n wherever x is. f ≥ 0, and it is 0 or near it at x*.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from tasks.base import SPLITS, Arrays, Batch, Configuration, Task, TaskFamily, TaskMetadata

HORIZON = 200


def noisy_family(
    name: str,
    architecture: str,
    size: int,
    sample: Callable[[jax.Array], Configuration],
    value: Callable[[Configuration, Any], jax.Array],
) -> TaskFamily:
    """The family of f = ``value(cfg, x)`` for an array or tree x of ``size`` entries in all.

    ``sample(key)`` draws ``start`` and ``minimum`` (shaped like x), ``noise`` (σ), and whatever
    else f needs. The parameters are {"x": x}.
    """

    def build(cfg: Configuration) -> Task:
        scale = 1 / value(cfg, cfg["start"])

        def init(key: jax.Array) -> tuple[Any, Any]:
            del key  # the start belongs to the configuration, as its unit of loss does
            return {"x": jax.tree.map(jnp.asarray, cfg["start"])}, {}

        def loss(params: Any, model_state: Any, key: jax.Array, batch: Batch) -> tuple:
            del key
            gap = ravel_pytree(params["x"])[0] - ravel_pytree(cfg["minimum"])[0]
            noise = cfg["noise"] * jnp.dot(batch["noise"], gap)
            return scale * value(cfg, params["x"]) + noise, (model_state, {})

        return Task(init, loss)

    def batch(key: jax.Array, arrays: Arrays) -> Batch:
        del arrays
        return {"noise": jax.random.normal(key, (size,))}

    def examples(arrays: Arrays, limit: int) -> Batch:
        del arrays, limit
        return {"noise": jnp.zeros(size)}

    return TaskFamily(
        name=name,
        metadata=TaskMetadata(
            domain="analytic",
            architecture=architecture,
            activation="none",
            data="synthetic",
            widths=(size,),
            batch_size=1,
            horizon=HORIZON,
            initial_loss=1.0,
        ),
        load=lambda: {split: {} for split in SPLITS},
        sample=sample,
        build=build,
        batch=batch,
        examples=examples,
    )


def log_uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """A positive number between the bounds, its logarithm uniform; shape []."""
    low, high = np.log(bounds)
    return jnp.exp(jax.random.uniform(key, (), minval=low, maxval=high))


def random_rotation(key: jax.Array, dimension: int) -> jax.Array:
    """An orthogonal matrix; shape [D, D]."""
    return jnp.linalg.qr(jax.random.normal(key, (dimension, dimension)))[0]
