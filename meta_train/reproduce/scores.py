"""How good many θ are: whole episodes at each of them, on the same keys, spread over devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.parallel import default_block, device_mesh, split_rows
from meta_train.problem import Data, Theta, UnrolledProblem


def episode_losses(
    problem: UnrolledProblem, key: jax.Array, theta: Theta, data: Data, length: int
) -> jax.Array:
    """L_t of one episode at θ: [length]."""
    key_init, key_steps = jax.random.split(key)

    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        return problem.step(key, theta, state, data)

    keys = jax.random.split(key_steps, length)
    return jax.lax.scan(step, problem.begin(key_init, theta, jnp.int32(length)), keys)[1]


def mean_losses(
    problem: UnrolledProblem, length: int, runs: int
) -> Callable[[Theta, Data], np.ndarray]:
    """`mean_curves`, averaged over the episode: [points]."""
    curves = mean_curves(problem, length, runs)
    return lambda thetas, data: curves(thetas, data).mean(axis=-1)


def mean_curves(
    problem: UnrolledProblem, length: int, runs: int
) -> Callable[[Theta, Data], np.ndarray]:
    """A function of (θ, data), compiled once: the mean over runs of L_t, step by step.

    θ has a leading axis [points], and the result is [points, length]; what diverges is infinite.
    All points see the same initial states, minibatches and noise.

    Args:
      problem: what to unroll.
      length: inner steps of an episode.
      runs: episodes of every θ.
    """

    def one_run(key: jax.Array, theta: Theta, data: Data) -> jax.Array:
        return episode_losses(problem, key, theta, data, length)

    def one_point(theta: Theta, shared: tuple[jax.Array, Data]) -> jax.Array:
        keys, data = shared
        return jax.vmap(one_run, in_axes=(0, None, None))(keys, theta, data).mean(axis=0)

    def of_points(thetas: Theta, data: Data) -> jax.Array:
        points = jax.tree.leaves(thetas)[0].shape[0]
        mesh = device_mesh(points)
        layout = split_rows(mesh, default_block(points // mesh.size))
        keys = jax.random.split(jax.random.key(SCORE_SEED), runs)
        scores = layout.spread(jax.vmap(one_point, in_axes=(0, None)))(thetas, (keys, data))
        return jnp.where(jnp.isfinite(scores), scores, jnp.inf)

    compiled = jax.jit(of_points)
    # θ by way of the host: it may come from a run on one device
    return lambda thetas, data: np.asarray(compiled(jax.tree.map(np.asarray, thetas), data))


SCORE_SEED = 1_000_003
"""Apart from the seeds of the runs."""
