"""Toy regression against the values that are known of its loss surface."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.toy_regression import INITIAL_THETA, toy_loss, toy_regression
from tests.meta_train.problems.unrolling import episode, total_loss


def test_the_first_step_by_hand():
    """x − e^{θ₀} ∇f, with ∇f written out; the loss is read after the step."""
    bump = math.exp(-5)
    slope = np.array(
        [
            1 / math.sqrt(6) - 10 * math.sin(1) ** 2 * bump,
            2 * math.sin(1) * math.cos(1) * bump - 0.25,
        ]
    )
    theta = jnp.asarray([-1.0, 2.0])
    state, losses = episode(toy_regression(10), theta, 1)
    np.testing.assert_allclose(state.x, 1 - math.exp(-1) * slope, rtol=1e-6)
    x0, x1 = np.asarray(state.x, float)
    by_hand = (
        math.sqrt(x0**2 + 5)
        - math.sqrt(5)
        + math.sin(x1) ** 2 * math.exp(-5 * x0**2)
        + abs(x1 - 100) / 4
    )
    assert float(losses[0]) == pytest.approx(by_hand, rel=1e-6)


def test_the_rate_goes_from_the_first_to_the_last():
    """Where the slope is −¼ in x₁, far from the bumps, each step is α/4 long."""
    theta, problem = jnp.log(jnp.asarray([0.4, 0.2])), toy_regression(10)
    _, losses = episode(problem, theta, 10)
    rates = 0.4 - 0.02 * np.arange(1, 10)
    state = problem.init(jax.random.key(0), theta)._replace(x=jnp.asarray([30.0, 40.0]))
    positions = [40.0]
    for _ in range(10):
        state, _ = problem.step(jax.random.key(0), theta, state, None)
        positions.append(float(state.x[1]))
    np.testing.assert_allclose(np.diff(positions)[1:], rates / 4, rtol=1e-3)
    assert losses.shape == (10,)


def test_the_surface_has_its_optimum_and_its_plateau():
    """552.8 at (2.80, −4.10) on one machine; rounding moves the teeth by some units."""
    first, second = jnp.meshgrid(jnp.linspace(-6, 6, 61), jnp.linspace(-6, 6, 61))
    theta = jnp.stack([first, second], axis=-1)
    losses = jax.jit(jax.vmap(jax.vmap(lambda t: total_loss(toy_regression(), t, 100))))(theta)
    least = np.unravel_index(np.argmin(losses), losses.shape)
    assert float(losses[least]) == pytest.approx(552.8, rel=0.02)
    assert float(first[least]) == pytest.approx(2.8, abs=0.21)
    near = losses[np.abs(first - 2.8) < 0.05]
    assert np.min(np.abs(near - 552.8)) < 10
    assert float(total_loss(toy_regression(), jnp.asarray(INITIAL_THETA), 100)) > 2423
    plateau = total_loss(toy_regression(), jnp.asarray([0.141, -0.805]), 100)
    assert float(plateau) == pytest.approx(2423, abs=1)


def test_the_loss_is_least_at_the_bottom():
    assert float(toy_loss(jnp.asarray([0.0, 100.0]))) == pytest.approx(math.sin(100) ** 2, rel=1e-4)


def test_a_bad_length_is_named():
    with pytest.raises(ValueError, match="`length`=0"):
        toy_regression(0)
