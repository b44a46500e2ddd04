"""What the evolution-strategies estimators share: antithetic noise, the unroll, the credit.

Only forward evaluations of the problem: it is never differentiated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Layout, check_problem
from meta_train.problem import Data, Theta, UnrolledProblem


def pair_keys(key: jax.Array, pairs: int) -> jax.Array:
    """One key a pair, the same whatever the number of pairs and devices. Shape [pairs]."""
    return jax.vmap(lambda pair: jax.random.fold_in(key, pair))(jnp.arange(pairs))


def sample_noise(keys: jax.Array, theta: Theta, sigma: float) -> Theta:
    """ε ~ N(0, σ²I) for every pair: like θ with a leading axis [pairs]."""
    leaves, treedef = jax.tree.flatten(theta)

    def one(key: jax.Array) -> list[jax.Array]:
        keys = jax.random.split(key, max(len(leaves), 1))
        return [
            sigma * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, map(jnp.asarray, leaves), strict=False)
        ]

    return jax.tree.unflatten(treedef, jax.vmap(one)(keys))


def empty_inner_states(problem: UnrolledProblem, theta: Theta, pairs: int) -> Any:
    """Zeros with the shapes of inner states [pairs, 2, …]; the first window initialises them."""
    shapes = jax.eval_shape(problem.init, jax.random.key(0), theta)
    return jax.tree.map(lambda x: jnp.zeros((pairs, 2, *x.shape), x.dtype), shapes)


class PairsOfWindow(NamedTuple):
    """What the unroll needs of every pair: leading axis [pairs] everywhere.

    ``inner`` [pairs, 2, …]; ``restart`` says who begins an episode, with ``init_key``.
    """

    noise: Theta
    inner: Any
    restart: jax.Array
    init_key: jax.Array
    unroll_key: jax.Array


class WindowLosses(NamedTuple):
    """What the unroll says of every pair: [pairs, 2] each.

    ``value``: the window loss; ``diverged``, bool: one of its W losses was not finite.
    """

    value: jax.Array
    diverged: jax.Array


def window_loss(reduction: str, bound: float | None) -> Callable[[jax.Array], jax.Array]:
    """The function that makes [value, diverged] of the losses [W] of a window.

    With a ``bound``, a loss counts at most that, and a loss that is not a number counts
    as the bound.
    """
    reduce = jnp.sum if reduction == "sum" else jnp.mean

    def of_steps(losses: jax.Array) -> jax.Array:
        counted = losses
        if bound is not None:
            counted = jnp.where(jnp.isnan(losses), bound, jnp.minimum(losses, bound))
        diverged = ~jnp.isfinite(losses).all()
        return jnp.stack([reduce(counted), diverged.astype(losses.dtype)])

    return of_steps


def unroll_pairs(
    problem: UnrolledProblem,
    window: int,
    reduce: Callable[[jax.Array], jax.Array],
    layout: Layout,
    pairs: PairsOfWindow,
    theta: Theta,
    data: Data,
) -> tuple[Any, WindowLosses]:
    """W inner steps at θ+ε and at θ−ε, from a new inner state where ``restart`` says so.

    Both members of a pair share data and every key; they differ in the sign of ε alone.

    The losses are the only thing that devices tell each other: noise and credit are computed
    alike on all of them.

    ``reduce``: of `window_loss`.

    Returns:
      inner states [pairs, 2, …], and the window losses.
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
            both_signs = jax.vmap(problem.init, in_axes=(None, 0))
            fresh = jax.vmap(both_signs)(block.init_key, perturbed)

            def choose(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(block.restart.reshape(-1, *[1] * (old.ndim - 1)), new, old)

            return jax.tree.map(choose, fresh, block.inner)

        # Outside the vmap, so that a block without a restart does not pay for one.
        inner = jax.lax.cond(block.restart.any(), begin, lambda: block.inner)
        keys = jax.vmap(lambda key: jax.random.split(key, window))(block.unroll_key)
        both_signs = jax.vmap(unroll_one, in_axes=(0, 0, None, None))
        return jax.vmap(both_signs, in_axes=(0, 0, 0, None))(inner, perturbed, keys, data)

    one_state = jax.tree.map(lambda x: x[0, 0], pairs.inner)
    check_problem(problem, pairs.unroll_key[0], theta, one_state, data)
    inner, packed = layout.spread(unroll_block)(pairs, (theta, data))
    packed = layout.everywhere(packed)
    return inner, WindowLosses(packed[..., 0], packed[..., 1] > 0)


def credit(noise: Theta, losses: jax.Array, sigma: float) -> tuple[Theta, jax.Array]:
    """ĝ = 1/(Nσ²) Σ_i (credited noise)_i · (window loss)_i, both members of a pair together.

    A pair with a loss that is not finite is left out and N counts the others; where no
    pair is left, the estimate is zero and the count says so.

    Shapes: noise [pairs, …] like θ, losses [pairs, 2] → like θ; finite, bool [pairs].
    """
    finite = jnp.isfinite(losses).all(axis=1)
    difference = jnp.where(finite, losses[:, 0] - losses[:, 1], 0)
    weight = difference / (2 * sigma**2 * jnp.maximum(finite.sum(), 1))

    def one(leaf: jax.Array) -> jax.Array:
        return jnp.tensordot(
            weight.astype(leaf.dtype), leaf, axes=1, precision=jax.lax.Precision.HIGHEST
        )

    return jax.tree.map(one, noise), finite


def norm_per_pair(noise: Theta) -> jax.Array:
    """Euclidean norm over all leaves. Shape [pairs]."""
    squares = [jnp.sum(jnp.square(x), axis=range(1, x.ndim)) for x in jax.tree.leaves(noise)]
    return jnp.sqrt(sum(squares))
