"""A function of the entries of a tensor, a block of them at a time."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

BLOCK = 24_576
"""Entries; the hidden layers of a block stay in a core's cache."""


def over_blocks(
    function: Callable[[Any], jax.Array], arrays: Any, shape: tuple[int, ...], block: int = BLOCK
) -> jax.Array:
    """``function(arrays)`` for a function that treats every entry alike: [*outputs, *shape].

    The arrays' last axes are those of ``shape``, or 1 where they are constant. On CPU the
    function is called on slices along the longest axis, so that what it makes in between stays
    in the cache; elsewhere, and for arrays whose sharding is part of their type, at once.
    """
    entries = math.prod(shape)
    longest = max(range(len(shape)), key=lambda i: shape[i], default=0)
    if not splitting_pays(arrays, shape, block):
        return function(arrays)
    axis = longest - len(shape)
    width = max(1, block // (entries // shape[longest]))
    count = -(-shape[longest] // width)

    def part(index: jax.Array | int) -> jax.Array:
        def cut(x: jax.Array) -> jax.Array:
            if x.shape[axis] == 1:
                return x
            return jax.lax.dynamic_slice_in_dim(x, start(index), width, axis)

        return function(jax.tree.map(cut, arrays))

    def start(index: jax.Array | int) -> jax.Array:
        # The last block overlaps the one before it, and finds the same.
        return jnp.minimum(jnp.asarray(index, jnp.int32) * width, shape[longest] - width)

    def write(index: jax.Array, results: jax.Array) -> jax.Array:
        at = start(index)
        return jax.lax.dynamic_update_slice_in_dim(results, part(index), at, axis)

    like = jax.eval_shape(part, 0)
    extents = list(like.shape)
    extents[axis] = shape[longest]
    return jax.lax.fori_loop(0, count, write, jnp.zeros(extents, like.dtype))


def splitting_pays(arrays: Any, shape: tuple[int, ...], block: int = BLOCK) -> bool:
    """Whether a tensor is worth a loop of our own: a long one, on CPU, in one place."""
    large = math.prod(shape) > block
    return large and jax.default_backend() == "cpu" and not _sharded_by_type(arrays)


def _sharded_by_type(arrays: Any) -> bool:
    return any(
        any(axis is not None for axis in jax.typeof(x).sharding.spec)
        for x in jax.tree.leaves(arrays)
    )
