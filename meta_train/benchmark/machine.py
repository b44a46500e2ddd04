"""What this machine can do at best: the rate of a matrix product, and of a copy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt.benchmark import copied_size, product_size
from meta_train.parallel import device_mesh, replicated, split_leading


def matrix_product() -> tuple[Callable[[], Any], float]:
    """A product of square float32 matrices, rows split over the devices, and its operations."""
    size = product_size()
    mesh = device_mesh(size)
    left = jax.device_put(jnp.ones((size, size)), split_leading(mesh))
    right = jax.device_put(jnp.ones((size, size)), replicated(mesh))
    product = jax.jit(jnp.dot, out_shardings=split_leading(mesh))
    return lambda: product(left, right), 2.0 * size**3


def copy() -> tuple[Callable[[], Any], float]:
    """A pass over memory, split over the devices, and the bytes that it reads and writes."""
    size = copied_size()
    mesh = device_mesh(size)
    numbers = jax.device_put(jnp.ones(size), split_leading(mesh))
    negative = jax.jit(jnp.negative)
    return lambda: negative(numbers), 2.0 * numbers.nbytes
