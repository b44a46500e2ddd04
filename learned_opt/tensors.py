"""From the update of one tensor to the update of a model."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

SMALL = 4_096
"""Entries of the largest tensor that shares one evaluation with others of its shape."""

TensorState = Any
UpdateTensor = Callable[[jax.Array, jax.Array, TensorState], tuple[jax.Array, TensorState]]


def real_array(leaf: Any) -> jax.Array:
    """A parameter or gradient as an array; TypeError where it is no real number."""
    array = jnp.asarray(leaf)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"a parameter or gradient has dtype {array.dtype}; learned optimizers update real "
            "floating-point leaves: leave others out with `optax.masked` or `optax.partition`"
        )
    return array


def required(params: Any) -> Any:
    """The parameters; ValueError where an update came without them."""
    if params is None:
        raise ValueError(
            "`params`=None: the update of this rule depends on the parameters; "
            "call `update(grads, state, params)`"
        )
    return params


def required_loss(value: Any, rule: str) -> jax.Array:
    """The loss as a float32 scalar; ValueError where an update came without it."""
    if value is None:
        raise ValueError(
            f"`value`=None: the rule {rule!r} reads the loss; "
            "call `update(grads, state, params, value=loss)`"
        )
    return jnp.asarray(value, jnp.float32)


def required_steps(num_steps: Any, rule: str) -> jax.Array:
    """The length of training as a float32 scalar; ValueError where it is not known."""
    if num_steps is None:
        raise ValueError(
            f"`num_steps`=None: the rule {rule!r} plans its steps over the whole of training; "
            "say how many there will be, as in `load(name, num_steps=10_000)`"
        )
    if not isinstance(num_steps, jax.Array) and not 1 <= num_steps < 2**31:
        raise ValueError(f"`num_steps`={num_steps}: must be at least 1 and below 2**31")
    return jnp.asarray(num_steps, jnp.float32)


def flat_pairs(
    updates: optax.Updates, params: optax.Params | None
) -> tuple[Any, list[jax.Array], list[jax.Array]]:
    """The structure of the parameters, and the gradients and parameters in its order."""
    tree: Any
    leaves, tree = jax.tree.flatten(required(params))
    gradients = tree.flatten_up_to(updates)
    return tree, [real_array(g) for g in gradients], [real_array(p) for p in leaves]


def zeros_beside(
    parameter: jax.Array, count: int, dtype: str, *, reduced: int | None = None
) -> jax.Array:
    """State of ``count`` numbers an entry, [count, *shape], sharded like the parameter.

    With ``reduced`` the extent of that axis is 1.
    """
    zeros = jnp.zeros_like(parameter, dtype=dtype)
    if reduced is not None:
        zeros = jnp.sum(zeros, axis=reduced, keepdims=True)
    return jnp.broadcast_to(zeros[None], (count, *zeros.shape))


def update_tensors(
    update_one: UpdateTensor, updates: optax.Updates, states: Any, params: optax.Params | None
) -> tuple[optax.Updates, Any]:
    """Apply ``update_one(gradient, parameter, state) -> (update, state)`` to every tensor.

    It is given float32 and may return it: updates get the dtype of their parameters. Empty
    tensors pass as they are. Small tensors of one shape are updated by one evaluation, which
    is what a model of many layers saves its compilation and its kernels by.
    """
    tree, gradients, leaves = flat_pairs(updates, params)
    before = tree.flatten_up_to(states)
    after: list[Any] = [None] * len(leaves)
    for group in _groups(leaves, gradients):
        arguments = [
            (gradients[i].astype(jnp.float32), leaves[i].astype(jnp.float32), before[i])
            for i in group
        ]
        for i, result in zip(group, _evaluate(update_one, arguments), strict=True):
            after[i] = result
    steps = [u.astype(p.dtype) for (u, _), p in zip(after, leaves, strict=True)]
    return tree.unflatten(steps), tree.unflatten([state for _, state in after])


def _evaluate(update_one: UpdateTensor, arguments: list[Any]) -> list[Any]:
    if arguments[0][0].size == 0:
        return [(jnp.zeros_like(parameter), state) for _, parameter, state in arguments]
    if len(arguments) == 1:
        return [update_one(*arguments[0])]
    stacked = jax.vmap(update_one)(*jax.tree.map(lambda *x: jnp.stack(x), *arguments))
    return [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(arguments))]


def _groups(leaves: list[jax.Array], gradients: list[jax.Array]) -> list[list[int]]:
    """Places of the tensors that are updated together."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        alike = (
            leaf.shape,
            str(jax.typeof(leaf).sharding.spec),
            str(jax.typeof(gradient).sharding.spec),
        )
        groups[alike if leaf.size <= SMALL else i].append(i)
    return list(groups.values())


def round_to(values: jax.Array, dtype: str, step: jax.Array) -> jax.Array:
    """float32 values as ``dtype``; bfloat16 by stochastic rounding, from bits that depend on the
    step and the place alone.

    Rounded to the nearest, a running mean with a decay above 1 − 2⁻⁹ would never move in
    bfloat16: a step of (1−β)(x − m) is less than half of its last bit.
    """
    if dtype == "float32":
        return values
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    place = jax.lax.iota(jnp.uint32, max(values.size, 1))[: values.size].reshape(values.shape)
    noise = _scramble(place + _scramble(step.astype(jnp.uint32)))
    rounded = (bits + (noise >> 16)) & jnp.uint32(0xFFFF0000)
    kept = jnp.where(jnp.isfinite(values), rounded, bits)
    return jax.lax.bitcast_convert_type(kept, jnp.float32).astype(dtype)


def _scramble(x: jax.Array) -> jax.Array:
    """An integer hash of 32 bits (the finalizer of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
