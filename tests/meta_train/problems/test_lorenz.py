"""The Lorenz system against its fixed points and the loss at its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.lorenz import (
    INITIAL_THETA,
    START,
    TRUE_A,
    TRUE_R,
    TRUE_THETA,
    B,
    euler_step,
    lorenz,
)
from tests.meta_train.problems.unrolling import episode

THETA = jnp.asarray(INITIAL_THETA)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_fixed_points_stay(sign):
    """x = y = ±√(b(r − 1)), z = r − 1."""
    side = sign * np.sqrt(B * (TRUE_R - 1))
    point = jnp.asarray([side, side, TRUE_R - 1], jnp.float32)
    moved = euler_step(point, jnp.asarray(TRUE_A), jnp.asarray(TRUE_R), 0.005)
    np.testing.assert_allclose(moved, point, rtol=1e-6)


def test_a_step_by_hand():
    """From (1, 2, 3) with a = 10, r = 28: velocity (10, 23, −6)."""
    moved = euler_step(jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray(10.0), jnp.asarray(28.0), 0.1)
    np.testing.assert_allclose(moved, [2.0, 4.3, 2.4], rtol=1e-6)


def test_the_mean_loss_at_the_start_and_at_the_truth():
    """312 at θ_0 over initial positions, and nothing at the truth."""

    def mean_loss(theta):
        def one(key):
            return episode(lorenz(), theta, 2000, key=key)[1].mean()

        return jax.vmap(one)(jax.random.split(jax.random.key(0), 200))

    losses = jax.jit(mean_loss)(THETA)
    assert float(losses.mean()) == pytest.approx(312, abs=5 * float(losses.std()) / 200**0.5)
    assert float(losses.std()) < 50
    true = episode(lorenz(), jnp.asarray(TRUE_THETA, jnp.float32), 300)[1]
    assert float(true.max()) < 1e-4


def test_both_systems_begin_at_one_place_drawn_around_the_start():
    init = lorenz(spread=2.0).init
    states = jax.vmap(lambda key: init(key, THETA))(jax.random.split(jax.random.key(0), 4_000))
    np.testing.assert_array_equal(states.learned, states.true)
    np.testing.assert_allclose(states.true.mean(axis=0), START, atol=5 * 2 / 4_000**0.5)
    np.testing.assert_allclose(states.true.std(axis=0), 2, rtol=0.06)


def test_a_bad_time_step_is_named():
    with pytest.raises(ValueError, match="`time_step`=0"):
        lorenz(time_step=0)
