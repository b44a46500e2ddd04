"""What every estimator is on average: a known gradient, or a known bias.

At several σ and windows, within 5 standard errors that are themselves checked to be small.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import UnrolledProblem
from meta_train.problems.drift import drift_gradient, drift_truncated_gradient
from meta_train.problems.final_loss import final_loss
from tests.meta_train.estimators.problems import (
    DIRECTION,
    DRIFT,
    QUADRATIC,
    QUADRATIC_THETA,
    THETA,
    flat,
    noise_only,
    total_loss,
)
from tests.meta_train.estimators.proofs import EVOLUTION, WHOLE, check_mean, episode_sums, make

LENGTH = 12
UNBIASED = ("full_es", "pes", "pes_analytic", "nres", "gpes")
IN_EXPECTATION = ("uoro", "dodge")  # over draws of their own, without σ
DRIFT_SIGMAS = (0.03, 0.3, 3.0)
QUADRATIC_SIGMAS = (0.03, 0.1, 0.5)


def windows_of(name):
    return (LENGTH,) if name in WHOLE else (2, 3)


CASES = [(name, window) for name in UNBIASED for window in windows_of(name)]


def quadratic_gradient():
    gradient = jax.grad(partial(total_loss, QUADRATIC))(QUADRATIC_THETA, LENGTH)
    return flat(jax.tree.map(lambda g: g[None], gradient))[0]


def check_drift(name, window=3):
    sums = episode_sums(
        name,
        DRIFT,
        THETA,
        window=window,
        length=LENGTH,
        sigmas=DRIFT_SIGMAS,
        particles=2_000,
        **({"episodes": 1_000} if name in IN_EXPECTATION else {}),
    )
    check_mean(sums, drift_gradient(DIRECTION, LENGTH))


def check_quadratic(name, window=3):
    sums = episode_sums(
        name,
        QUADRATIC,
        QUADRATIC_THETA,
        window=window,
        length=LENGTH,
        sigmas=QUADRATIC_SIGMAS,
        particles=2_000,
        **({"episodes": 1_000} if name in IN_EXPECTATION else {}),
    )
    check_mean(sums, quadratic_gradient())


def check_noise_only(name, window=2):
    sums = episode_sums(name, noise_only(), THETA, window=window, length=8, particles=10)
    assert not sums[0.3].any()


@pytest.mark.parametrize(("name", "window"), CASES)
def test_unbiased_on_drift(name, window):
    check_drift(name, window)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "window"), CASES)
def test_unbiased_on_a_quadratic(name, window):
    check_quadratic(name, window)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*UNBIASED, "rtrl", "full_backprop"])
def test_a_telescoped_loss_has_the_gradient_of_the_last_one(name):
    """Over three windows: 10⁻³ of it where it is exact."""
    problem = final_loss(QUADRATIC)
    settings = dict(window=4, length=LENGTH, sigmas=QUADRATIC_SIGMAS, particles=4_000)
    sums = episode_sums(name, problem, QUADRATIC_THETA, **settings)

    def last(theta):
        losses = [total_loss(QUADRATIC, theta, steps) for steps in (LENGTH, LENGTH - 1)]
        return losses[0] - losses[1]

    expected = flat(jax.tree.map(lambda g: g[None], jax.grad(last)(QUADRATIC_THETA)))[0]
    if name in UNBIASED:
        check_mean(sums, expected)
    else:
        np.testing.assert_allclose(sums[0.1].mean(axis=0), expected, rtol=1e-3)


def test_a_bound_of_a_telescoped_loss_is_one_of_the_losses():
    """Of 2, 1000, 1.9 and 1.8 the last counts, whatever was between."""
    losses = np.asarray([2, 1000, 1.9, 1.8], np.float32)

    def step(key, theta, state, data):
        del key, data
        return state + 1, jnp.asarray(losses)[state] + 0 * theta.sum()

    problem = UnrolledProblem(lambda key, theta: jnp.zeros((), jnp.int32), step)
    estimator = make("pes", final_loss(problem, 3.45), window=4, particles=4, sigma=0.1, length=4)
    key = jax.random.key(0)
    _, _, info = estimator.step(key, THETA, estimator.init(key, THETA), None)
    np.testing.assert_allclose(info.losses, 1.8, rtol=1e-5)


@pytest.mark.parametrize("name", IN_EXPECTATION)
def test_random_directions_are_right_on_average(name):
    check_drift(name)
    check_quadratic(name)


@pytest.mark.parametrize("name", [*EVOLUTION, "pes_analytic", "mixture"])
def test_exactly_zero_where_the_loss_does_not_depend_on_theta(name):
    check_noise_only(name)


@pytest.mark.parametrize("window", [2, 3])
def test_truncated_es_has_its_known_bias(window):
    sums = episode_sums(
        "truncated_es",
        DRIFT,
        THETA,
        window=window,
        length=LENGTH,
        sigmas=DRIFT_SIGMAS,
        particles=2_000,
    )
    check_mean(sums, drift_truncated_gradient(DIRECTION, LENGTH, window))


def test_truncated_es_is_truncated_backpropagation_on_average():
    """On a quadratic: both lose the same."""
    settings = dict(window=3, length=LENGTH)
    estimator = make("truncated_backprop", QUADRATIC, **settings)
    expected, state = 0, estimator.init(jax.random.key(0), QUADRATIC_THETA)
    for key in jax.random.split(jax.random.key(0), LENGTH // 3):
        gradient, state, _ = estimator.step(key, QUADRATIC_THETA, state, None)
        expected += flat(jax.tree.map(lambda g: g[None], gradient))[0]
    sums = episode_sums(
        "truncated_es",
        QUADRATIC,
        QUADRATIC_THETA,
        **settings,
        sigmas=QUADRATIC_SIGMAS,
        particles=4_000,
    )
    check_mean(sums, expected)
    assert np.linalg.norm(expected - quadratic_gradient()) > 0.4 * np.linalg.norm(expected)


@pytest.mark.parametrize("window", [2, 3])
def test_truncated_backprop_has_its_known_bias(window):
    sums = episode_sums("truncated_backprop", DRIFT, THETA, window=window, length=LENGTH)
    expected = drift_truncated_gradient(DIRECTION, LENGTH, window)
    np.testing.assert_allclose(sums[0.3], np.broadcast_to(expected, sums[0.3].shape), rtol=1e-5)


@pytest.mark.parametrize("name", ["pes", "pes_analytic", "truncated_backprop", "rtrl"])
def test_mean_divides_by_the_window(name):
    settings = dict(window=4, length=LENGTH, particles=20)
    sums = episode_sums(name, DRIFT, THETA, **settings)[0.3]
    means = episode_sums(name, DRIFT, THETA, **settings, reduction="mean")[0.3]
    np.testing.assert_allclose(means, sums / 4, rtol=1e-4, atol=1e-4)
