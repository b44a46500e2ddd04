"""Training in a random subspace (Li et al. 2018, arXiv:1804.08838).

    p = p_0 + A x,    x_0 = 0,    A [parameters, D] with orthonormal columns

A has one entry in each row, normal, in a column drawn at random, so that it costs a gather:
every coordinate moves its own ⌊n/D⌋ or ⌈n/D⌉ of the n parameters. p_0 is kept in the model state.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from tasks.augmentations.base import (
    AugmentationError,
    in_coordinates,
    initial_shapes,
    own_key,
)
from tasks.base import (
    Batch,
    Configuration,
    Differentiate,
    ModelState,
    Params,
    Task,
    TaskFamily,
    Value,
    parameter_count,
)


def subspace(family: TaskFamily, dimension: int) -> TaskFamily:
    """The family at the top of this file, of tasks with ``dimension`` parameters."""
    size = parameter_count(family)
    if dimension > size:
        raise AugmentationError(f"D={dimension} exceeds the {size} parameters of {family.name!r}")

    def sample(key: jax.Array) -> Configuration:
        configuration = family.sample(key)
        key_columns, key_entries = jax.random.split(own_key(family, key))
        columns = jax.random.permutation(key_columns, size) % dimension
        entries = jax.random.normal(key_entries, (size,))
        squares = jax.ops.segment_sum(entries**2, columns, num_segments=dimension)
        basis = {"column": columns, "entry": entries * jax.lax.rsqrt(squares)[columns]}
        return {"task": configuration, "basis": basis}

    return family._replace(sample=sample, build=lambda cfg: _restricted(family, cfg, dimension))


def _restricted(family: TaskFamily, cfg: Configuration, dimension: int) -> Task:
    task, basis = family.build(cfg["task"]), cfg["basis"]
    _, unravel = _zeros(initial_shapes(family, cfg["task"], jax.random.key(0)))

    def moved(origin: Params) -> tuple:
        def to_params(params: Params) -> Params:
            step = unravel(basis["entry"] * params["x"][basis["column"]])
            return jax.tree.map(lambda p, s: p + s.astype(p.dtype), origin, step)

        return in_coordinates(task, to_params)

    def init(key: jax.Array) -> tuple[Params, ModelState]:
        origin, model_state = task.init(key)
        return {"x": jnp.zeros(dimension)}, {"task": model_state, "origin": origin}

    def keep_origin(value: Value, state: ModelState) -> Value:
        loss, (inner, metrics) = value
        return loss, ({**state, "task": inner}, metrics)

    def loss(params: Params, state: ModelState, key: jax.Array, batch: Batch) -> Value:
        inner_loss, _ = moved(state["origin"])
        return keep_origin(inner_loss(params, state["task"], key, batch), state)

    def gradient(
        differentiate: Differentiate,
        params: Params,
        state: ModelState,
        key: jax.Array,
        batch: Batch,
    ) -> tuple[Value, Params]:
        _, inner_gradient = moved(state["origin"])
        value, found = inner_gradient(differentiate, params, state["task"], key, batch)
        return keep_origin(value, state), found

    return Task(init, loss, gradient)


def _zeros(shapes: Params) -> tuple:
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
