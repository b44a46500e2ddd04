"""What rules share that treat every tensor of a model by itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.tensors import TensorState, UpdateTensor, real_array, update_tensors


class TensorwiseState(NamedTuple):
    """``step``: updates made so far, int32; ``tensors``: like the parameters, a state a tensor."""

    step: jax.Array
    tensors: Any


def tensorwise(
    init_one: Callable[[jax.Array], TensorState],
    at_step: Callable[[jax.Array], UpdateTensor],
) -> optax.GradientTransformationExtraArgs:
    """A transformation that updates every tensor with ``at_step(t)``, t counted from 0."""

    def init(params: optax.Params) -> TensorwiseState:
        tensors = jax.tree.map(lambda p: init_one(real_array(p)), params)
        return TensorwiseState(jnp.zeros((), jnp.int32), tensors)

    def update(
        updates: optax.Updates,
        state: TensorwiseState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, TensorwiseState]:
        del extra_args  # such rules read neither the loss nor a horizon
        steps, tensors = update_tensors(at_step(state.step), updates, state.tensors, params)
        return steps, TensorwiseState(optax.safe_increment(state.step), tensors)

    return optax.GradientTransformationExtraArgs(init, update)


def of_tensor(shared: jax.Array, tensor: jax.Array) -> jax.Array:
    """A feature that is the same for all of a tensor: [inputs] → [inputs, 1, …]."""
    return shared.reshape(-1, *[1] * tensor.ndim)
