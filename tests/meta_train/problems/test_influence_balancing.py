"""Influence balancing against its fixed point, which is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.influence_balancing import (
    INITIAL_THETA,
    influence_balancing,
    optimal_theta,
)
from tests.meta_train.problems.unrolling import episode


def last_loss(theta, **settings):
    return episode(influence_balancing(**settings), theta, 500)[1][-1]


def test_the_optimum_is_minus_a_sixth():
    assert optimal_theta() == pytest.approx(-1 / 6)
    loss, slope = jax.value_and_grad(last_loss)(jnp.asarray(optimal_theta()))
    assert loss < 1e-11
    assert abs(slope) < 1e-4
    curvature = jax.grad(jax.grad(last_loss))(jnp.asarray(INITIAL_THETA))
    assert curvature == pytest.approx(36, rel=1e-4)  # s[0] = −6 θ at rest


@pytest.mark.parametrize(("n", "positive"), [(23, 10), (8, 5)])
def test_the_state_comes_to_rest_on_a_line_in_theta(n, positive):
    state, _ = episode(influence_balancing(n, positive), jnp.asarray(INITIAL_THETA), 500)
    assert float(state.s[0]) == pytest.approx(INITIAL_THETA / optimal_theta(n, positive), rel=1e-5)


def test_the_first_step_by_hand():
    """s_1 = 1 + θ·sign but for the last entry, ½ + θ·sign; the loss is read after the step."""
    state, losses = episode(influence_balancing(3, 2), jnp.asarray(0.5), 1)
    np.testing.assert_allclose(state.s, [1.5, 1.5, 0.0])
    np.testing.assert_allclose(losses, [0.125])


def test_losses_between_the_multiples_do_not_count():
    theta = jnp.asarray(0.5)
    every = episode(influence_balancing(), theta, 12)[1]
    fourth = episode(influence_balancing(loss_every=4), theta, 12)[1]
    np.testing.assert_array_equal(fourth, np.where(np.arange(1, 13) % 4 == 0, every, 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positive": 24}, "`positive`=24: must be between 0 and `n`=23"),
        ({"loss_every": 0}, "`loss_every`=0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        influence_balancing(**settings)


def test_without_balance_no_theta_is_optimal():
    assert optimal_theta(4, 2) == float("inf")
