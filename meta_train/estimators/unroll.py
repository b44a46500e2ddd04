"""The unroll of antithetic pairs: W inner steps at θ+ε and at θ−ε, forward alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import RowFunction, choose_rows
from meta_train.problem import Data, Theta, UnrolledProblem


class PairsOfWindow(NamedTuple):
    """What the unroll needs of every pair: leading axis [pairs] everywhere.

    ``inner`` [pairs, 2, …]; ``restart`` says who begins an episode, with ``init_key``;
    ``length``: its inner steps, int32.
    """

    noise: Theta
    inner: Any
    restart: jax.Array
    init_key: jax.Array
    unroll_key: jax.Array
    length: jax.Array


def unroll_pairs(
    problem: UnrolledProblem, window: int, reduce: Callable[[jax.Array], jax.Array]
) -> RowFunction:
    """W inner steps at θ+ε and at θ−ε, from a new inner state where ``restart`` says so.

    Both members of a pair share data and every key; they differ in the sign of ε alone.

    Returns:
      A function of `PairsOfWindow` and (θ, data) that gives inner states [pairs, 2, …], and
      [pairs, 2, 2]: what ``reduce``, of `window_loss`, makes of the losses of each.
    """

    def unroll_one(state: Any, perturbed: Theta, keys: jax.Array, data: Data) -> tuple:
        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            return problem.step(key, perturbed, state, data)

        state, of_steps = jax.lax.scan(step, state, keys)
        return state, reduce(of_steps)

    def unroll_block(block: PairsOfWindow, shared: tuple[Theta, Data]) -> tuple:
        theta, data = shared
        perturbed = jax.tree.map(
            lambda t, e: jnp.stack([t[None] + e, t[None] - e], axis=1), theta, block.noise
        )

        def begin() -> Any:
            both_signs = jax.vmap(problem.begin, in_axes=(None, 0, None))
            fresh = jax.vmap(both_signs)(block.init_key, perturbed, block.length)
            return choose_rows(block.restart, fresh, block.inner)

        # Outside the vmap, so that a block without a restart does not pay for one.
        inner = jax.lax.cond(block.restart.any(), begin, lambda: block.inner)
        keys = jax.vmap(lambda key: jax.random.split(key, window))(block.unroll_key)
        both_signs = jax.vmap(unroll_one, in_axes=(0, 0, None, None))
        return jax.vmap(both_signs, in_axes=(0, 0, 0, None))(inner, perturbed, keys, data)

    return unroll_block


def both_signs(state: Any) -> Any:
    """The shapes of two inner states, of the members of a pair: [2, …]."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), state)
