"""How an inner gradient is taken where one model is large: in parts of the minibatch.

    ∇ L(batch) = 1/M Σ_m ∇ L(part m),    for a loss that is a mean over the examples

The parts follow each other on a device, so that it holds the activations of one at a time, or lie
on several devices, or both. Loss, gradient, metrics and the floating-point part of the model state
are means over the parts, which all begin with one model state; what a model computes of its whole
minibatch (the statistics of batch normalisation) is of a part, and noise is drawn for each.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.config import ConfigError, MetaTrainConfig
from meta_train.parallel import BATCH_AXIS
from meta_train.rematerialization import differentiate_rematerialized
from tasks.base import (
    Arrays,
    Batch,
    Differentiate,
    Loss,
    ModelState,
    Params,
    TaskFamily,
    Value,
    ValueAndGradient,
    differentiate_whole,
)


def differentiate_as(config: MetaTrainConfig, family: TaskFamily, arrays: Arrays) -> Differentiate:
    """How the inner gradients of a run are taken; ``arrays``: of one split of the data.

    Raises:
      ConfigError: the minibatches of the family cannot be divided so.
    """
    parts = config.microbatches * config.batch_devices
    if parts > 1:
        _check_parts(config, family, arrays)
    of_part = differentiate_rematerialized if config.rematerialize else differentiate_whole
    differentiate = in_sequence(of_part, config.microbatches)
    return over_devices(differentiate) if config.batch_devices > 1 else differentiate


def _check_parts(config: MetaTrainConfig, family: TaskFamily, arrays: Arrays) -> None:
    size, parts = family.metadata.batch_size, config.microbatches * config.batch_devices
    given = (
        f"`config.microbatches`={config.microbatches} times "
        f"`config.batch_devices`={config.batch_devices}"
    )
    batch = jax.eval_shape(family.batch, jax.random.key(0), arrays)
    if any(leaf.shape[:1] != (size,) for leaf in jax.tree.leaves(batch)):
        raise ConfigError(
            f"{given}: the task {family.name!r} has no minibatches of examples to divide; set both "
            "to 1"
        )
    if size % parts:
        raise ConfigError(
            f"{given} does not divide the {size} examples of a minibatch of {family.name!r}"
        )


def in_sequence(differentiate: Differentiate, parts: int) -> Differentiate:
    """The gradient as the mean of those of ``parts`` of the minibatch, one after the other."""

    def of_loss(loss: Loss) -> ValueAndGradient:
        of_part = differentiate(loss)

        def value_and_gradient(
            params: Params, model_state: ModelState, key: jax.Array, batch: Batch
        ) -> tuple[Value, Params]:
            split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
            keys = jax.random.split(key, parts)

            def part(i: Any) -> Any:
                own = jax.tree.map(lambda x: x[i], split)
                return of_part(params, model_state, keys[i], own)

            # Else an estimator that differentiates this would keep the activations of all parts.
            @partial(jax.checkpoint, prevent_cse=False)
            def add(sums: Any, i: jax.Array) -> tuple[Any, None]:
                return jax.tree.map(_add, sums, part(i)), None

            like = jax.eval_shape(part, 0)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, _wide(x)), like)
            sums, _ = jax.lax.scan(add, zeros, jnp.arange(parts))
            return jax.tree.map(lambda x, total: _divided(total, parts, x.dtype), like, sums)

        return value_and_gradient

    return of_loss if parts > 1 else differentiate


def over_devices(differentiate: Differentiate) -> Differentiate:
    """The gradient as the mean of those of the devices along `BATCH_AXIS`, a part on each.

    Outside of a program that is spread over them it is that of the whole minibatch: there,
    shapes alone are looked at.
    """

    def of_loss(loss: Loss) -> ValueAndGradient:
        of_part = differentiate(loss)

        def value_and_gradient(
            params: Params, model_state: ModelState, key: jax.Array, batch: Batch
        ) -> tuple[Value, Params]:
            try:
                count = jax.lax.axis_size(BATCH_AXIS)
            except NameError:  # no such axis here
                return of_part(params, model_state, key, batch)
            place = jax.lax.axis_index(BATCH_AXIS)

            def own(x: jax.Array) -> jax.Array:
                return jax.lax.dynamic_index_in_dim(
                    x.reshape(count, -1, *x.shape[1:]), place, keepdims=False
                )

            key_part = jax.random.split(key, count)[place]
            result = of_part(params, model_state, key_part, jax.tree.map(own, batch))
            return _mean_over_devices(result)

        return value_and_gradient

    return of_loss


def _mean_over_devices(tree: Any) -> Any:
    """Floating-point leaves as means along `BATCH_AXIS`, by one collective for all of them."""
    leaves, structure = jax.tree.flatten(tree)
    wide = [x.astype(_wide(x)) for x in leaves if _is_float(x)]
    means = iter(jax.lax.pmean(wide, BATCH_AXIS))
    mean = [next(means).astype(x.dtype) if _is_float(x) else x for x in leaves]
    return jax.tree.unflatten(structure, mean)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _wide(x: Any) -> Any:
    """What a leaf is summed in: float32 at least; what is no float is not summed."""
    return jnp.promote_types(x.dtype, jnp.float32) if _is_float(x) else x.dtype


def _add(total: jax.Array, x: jax.Array) -> jax.Array:
    return total + x.astype(total.dtype) if _is_float(x) else x


def _divided(total: jax.Array, parts: int, dtype: Any) -> jax.Array:
    return (total / parts).astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else total
