"""Drift and quadratic: the closed forms are what autodiff finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.drift import drift, drift_gradient, drift_truncated_gradient
from meta_train.problems.quadratic import quadratic, quadratic_gradient
from tests.meta_train.problems.unrolling import total_loss

DIRECTION = jnp.asarray([1.0, -2.0, 0.5])
THETA = jnp.asarray([0.4, -1.0, 2.0])


def test_drift_gradient():
    gradient = jax.grad(lambda theta: total_loss(drift(DIRECTION), theta, 12))(THETA)
    np.testing.assert_allclose(drift_gradient(DIRECTION, 12), gradient, rtol=1e-6)


def test_drift_gradient_within_windows():
    """The state that a window begins with does not count as a function of θ."""
    problem, length, window = drift(DIRECTION), 12, 3
    key = jax.random.key(0)

    def truncated(theta):
        def of_window(state, _):
            state = jax.lax.stop_gradient(state)
            return jax.lax.scan(lambda s, _: problem.step(key, theta, s, None), state, length=3)

        return jax.lax.scan(of_window, problem.init(key, theta), length=length // window)[1].sum()

    np.testing.assert_allclose(
        drift_truncated_gradient(DIRECTION, length, window), jax.grad(truncated)(THETA), rtol=1e-6
    )
    np.testing.assert_array_equal(
        drift_truncated_gradient(DIRECTION, 12, 12), drift_gradient(DIRECTION, 12)
    )


def test_quadratic_gradient_for_any_pytree():
    matrix = jnp.asarray([[0.9, 0.3, 0.0], [-0.2, 0.8, 0.3], [0.1, 0.0, 0.7]])
    start = jnp.asarray([1.0, -1.0, 0.5])
    theta = {"a": jnp.asarray([0.3, -0.2]), "b": jnp.asarray(0.5)}
    gradient = jax.grad(lambda t: total_loss(quadratic(matrix, start), t, 12))(theta)
    expected = quadratic_gradient(matrix, start, [0.3, -0.2, 0.5], 12)
    np.testing.assert_allclose([*gradient["a"], gradient["b"]], expected, rtol=1e-5)


def test_quadratic_refuses_shapes_that_do_not_agree():
    with pytest.raises(ValueError, match=r"`matrix` has shape \(2, 3\) and `start` \(3,\)"):
        quadratic(jnp.ones((2, 3)), jnp.ones(3))
