"""What this machine can do at best: the rate of a matrix product, and of a copy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt.benchmark import PRODUCT
from meta_train.parallel import device_mesh, replicated, split_leading

COPIED = 1 << 24  # float32 numbers, beyond the caches

PRODUCT_FLOPS = 2.0 * PRODUCT**3
COPY_BYTES = 2.0 * 4 * COPIED


def matrix_product() -> Callable[[], Any]:
    """A product of square float32 matrices, its rows split over the devices: `PRODUCT_FLOPS`."""
    mesh = device_mesh(PRODUCT)
    left = jax.device_put(jnp.ones((PRODUCT, PRODUCT)), split_leading(mesh))
    right = jax.device_put(jnp.ones((PRODUCT, PRODUCT)), replicated(mesh))
    product = jax.jit(jnp.dot, out_shardings=split_leading(mesh))
    return lambda: product(left, right)


def copy() -> Callable[[], Any]:
    """A pass over memory that reads and writes `COPY_BYTES`, split over the devices."""
    mesh = device_mesh(COPIED)
    numbers = jax.device_put(jnp.ones(COPIED), split_leading(mesh))
    negative = jax.jit(jnp.negative)
    return lambda: negative(numbers)
