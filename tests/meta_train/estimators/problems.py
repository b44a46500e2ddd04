"""Unrolled problems with known gradients, to hold estimators against."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import UnrolledProblem

DIRECTION = jnp.asarray([1.0, -2.0, 0.5])


def drift(direction=DIRECTION):
    """s ← s + θ from 0; L_t = ⟨c, s⟩ before the step, so ∇ Σ_{t<T} L_t = c·T(T−1)/2."""

    def step(key, theta, state, data):
        del key, data
        return state + theta, jnp.dot(direction, state)

    return UnrolledProblem(lambda key, theta: jnp.zeros_like(theta), step)


MATRIX = jnp.asarray([[0.9, 0.3, 0.0], [-0.2, 0.8, 0.3], [0.1, 0.0, 0.7]])
START = jnp.asarray([1.0, -1.0, 0.5])
QUADRATIC_THETA = {"a": jnp.asarray([0.3, -0.2]), "b": jnp.asarray(0.5)}


def quadratic():
    """s ← A s + θ, L = ½‖s‖² after the step: quadratic in the θ of every step."""

    def step(key, theta, state, data):
        del key, data
        state = MATRIX @ state + jnp.concatenate([theta["a"], theta["b"][None]])
        return state, 0.5 * jnp.dot(state, state)

    return UnrolledProblem(lambda key, theta: START, step)


def noise_only():
    """A loss that is random, and the same whatever θ is."""

    def step(key, theta, state, data):
        del theta, data
        return state + 1, jax.random.normal(key)

    return UnrolledProblem(lambda key, theta: jnp.zeros(()), step)


def influence_balancing(n=23, positive=10):
    """Vicol et al. 2021, section 4.1: s ← A s + θ·sign, L = ½(s₀ − 1)² after the step."""
    matrix = 0.5 * np.eye(n) + 0.5 * np.eye(n, k=1)
    sign = np.where(np.arange(n) < positive, 1.0, -1.0)

    def step(key, theta, state, data):
        del key, data
        state = jnp.asarray(matrix, state.dtype) @ state + theta * jnp.asarray(sign, state.dtype)
        return state, 0.5 * (state[0] - 1) ** 2

    return UnrolledProblem(lambda key, theta: jnp.ones(n), step)


def total_loss(problem, theta, length):
    """Σ_{t<T} L_t of one episode at a θ shared by all steps."""
    key = jax.random.key(0)

    def body(state, _):
        return problem.step(key, theta, state, None)

    return jax.lax.scan(body, problem.init(key, theta), length=length)[1].sum()
