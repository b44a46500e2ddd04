"""Quadratics with random spectra, random rotations and noisy gradients.

    L(x) = ½ (x − x*)ᵀ H (x − x*) / c,    H = Q diag(h) Qᵀ,    h_i = κ^(−u_i),  u_i ~ U(0, 1)

with c such that L is 1 at the start; a batch is a noise vector n that adds nᵀ(x − x*).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import SPLITS, Arrays, Batch, Configuration, Task, TaskFamily, TaskMetadata

CONDITION_NUMBERS = (1.0, 1e3)  # κ: log-uniform
NOISE_SCALES = (1e-4, 1e-2)  # standard deviation of each entry of n: log-uniform
HORIZON = 200


def quadratic_family(name: str, dimension: int) -> TaskFamily:
    """Quadratics of one dimension; every task has its own spectrum, rotation and noise."""

    def sample(key: jax.Array) -> Configuration:
        keys = jax.random.split(key, 6)
        condition = _log_uniform(keys[0], CONDITION_NUMBERS)
        rotation, _ = jnp.linalg.qr(jax.random.normal(keys[1], (dimension, dimension)))
        return {
            "spectrum": condition ** -jax.random.uniform(keys[2], (dimension,)),
            "rotation": rotation,
            "minimum": jax.random.normal(keys[3], (dimension,)),
            "start": jax.random.normal(keys[4], (dimension,)),
            "noise": _log_uniform(keys[5], NOISE_SCALES),
        }

    def build(cfg: Configuration) -> Task:
        def value(x: jax.Array) -> jax.Array:
            rotated = cfg["rotation"].T @ (x - cfg["minimum"])
            return 0.5 * jnp.sum(cfg["spectrum"] * jnp.square(rotated))

        scale = 1 / value(cfg["start"])

        def init(key: jax.Array) -> tuple[Any, Any]:
            del key  # the start belongs to the configuration, as its unit of loss does
            return {"x": cfg["start"]}, {}

        def loss(params: Any, model_state: Any, key: jax.Array, batch: Batch) -> tuple:
            del key
            noise = cfg["noise"] * jnp.dot(batch["noise"], params["x"] - cfg["minimum"])
            return scale * value(params["x"]) + noise, (model_state, {})

        return Task(init, loss)

    def batch(key: jax.Array, arrays: Arrays) -> Batch:
        del arrays
        return {"noise": jax.random.normal(key, (dimension,))}

    def examples(arrays: Arrays, limit: int) -> Batch:
        del arrays, limit
        return {"noise": jnp.zeros(dimension)}

    return TaskFamily(
        name=name,
        metadata=TaskMetadata(
            domain="analytic",
            architecture="quadratic",
            activation="none",
            data="synthetic",
            widths=(dimension,),
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


def _log_uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    low, high = np.log(bounds)
    return jnp.exp(jax.random.uniform(key, (), minval=low, maxval=high))
