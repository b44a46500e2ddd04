"""Unrolled problems with known gradients, to hold estimators against."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import UnrolledProblem
from meta_train.problems.drift import drift
from meta_train.problems.quadratic import quadratic

DIRECTION = jnp.asarray([1.0, -2.0, 0.5])
THETA = jnp.asarray([0.4, -1.0, 2.0])
DRIFT = drift(DIRECTION)

QUADRATIC = quadratic(
    jnp.asarray([[0.9, 0.3, 0.0], [-0.2, 0.8, 0.3], [0.1, 0.0, 0.7]]), jnp.asarray([1.0, -1.0, 0.5])
)
QUADRATIC_THETA = {"a": jnp.asarray([0.3, -0.2]), "b": jnp.asarray(0.5)}


def noise_only():
    """A loss that is random, and the same whatever θ is."""

    def step(key, theta, state, data):
        del theta, data
        return state + 1, jax.random.normal(key)

    return UnrolledProblem(lambda key, theta: jnp.zeros(()), step)


def from_theta():
    """Begins at θ itself, moves at random and not linearly; has an integer in its state."""

    def init(key, theta):
        return jnp.tanh(theta) + 0.1 * jax.random.normal(key, (3,)), jnp.zeros((), jnp.int32)

    def step(key, theta, state, data):
        del data
        position, count = state
        position = jnp.sin(position + theta * (1 + 0.1 * count)) + 0.1 * jax.random.normal(
            key, (3,)
        )
        return (position, count + 1), jnp.sum(position**3)

    return UnrolledProblem(init, step)


def total_loss(problem, theta, length, key=None):
    """Σ_{t<T} L_t of one episode at a θ shared by all steps; its keys are split from ``key``."""
    key = jax.random.key(0) if key is None else key

    def body(state, key):
        return problem.step(key, theta, state, None)

    return jax.lax.scan(body, problem.init(key, theta), jax.random.split(key, length))[1].sum()


def flat(tree):
    """The leaves of a pytree, with a leading axis, end to end: [n, P]."""
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in jax.tree.leaves(tree)], axis=1)
