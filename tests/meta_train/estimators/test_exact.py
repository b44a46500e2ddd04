"""Where estimators agree exactly: with autodiff, with each other, with published numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meta_train.estimators.antithetic as antithetic
from meta_train.estimators import ESTIMATORS
from meta_train.estimators.noise import pair_keys
from meta_train.problems.influence_balancing import influence_balancing
from tests.meta_train.estimators.problems import THETA, flat, from_theta, total_loss
from tests.meta_train.estimators.proofs import make

pytestmark = pytest.mark.slow

LENGTH = 12
KEY = jax.random.key(3)


def estimates(name, problem=None, theta=THETA, windows=8, **settings):
    """The estimate of every window, [windows, P], with the draws of one sequence of keys."""
    estimator = make(name, problem or from_theta(), **settings)

    def body(state, key):
        gradient, state, _ = estimator.step(key, theta, state, None)
        return state, gradient

    keys = jax.random.split(KEY, windows)
    return flat(jax.jit(jax.lax.scan, static_argnums=0)(body, estimator.init(KEY, theta), keys)[1])


ES = dict(particles=6, sigma=0.2, length=LENGTH)


@pytest.mark.parametrize("name", ["pes", "nres", "gpes", "truncated_es"])
def test_a_window_that_is_an_episode_is_full_es(name):
    expected = estimates("full_es", **ES)
    np.testing.assert_allclose(estimates(name, window=LENGTH, **ES), expected, rtol=1e-4)
    assert np.abs(expected).min() > 1e-3


@pytest.mark.parametrize(("period", "name"), [(3, "pes"), (LENGTH, "nres"), (5 * LENGTH, "nres")])
def test_gpes_is_pes_and_nres_at_its_ends(period, name):
    settings = dict(window=3, **ES)
    np.testing.assert_allclose(
        estimates("gpes", noise_period=period, **settings), estimates(name, **settings), rtol=1e-4
    )


def test_in_between_gpes_is_neither():
    settings = dict(window=3, **ES)
    between = estimates("gpes", noise_period=6, **settings)
    for name in ("pes", "nres"):
        assert np.abs(between - estimates(name, **settings))[1:].max() > 0.1


def test_nres_and_dodge_agree_for_small_noise():
    """For the same direction: the finite difference becomes the derivative."""
    settings = dict(window=3, length=LENGTH)
    derivative = estimates("dodge", windows=4, **settings)
    difference = estimates("nres", windows=4, particles=2, sigma=1e-2, **settings)
    np.testing.assert_allclose(difference, derivative, rtol=2e-2, atol=2e-2)


def autodiff_of_episodes(estimator_windows, problem, theta, key):
    """∇ Σ_t L_t of the episode that an estimator of one row sees, keys and all."""
    keys = [jax.random.split(k, 4) for k in jax.random.split(key, estimator_windows)]
    start = pair_keys(keys[0][2], 1)[0]
    steps = jnp.concatenate(
        [jax.random.split(pair_keys(k[3], 1)[0], LENGTH // estimator_windows) for k in keys]
    )

    def loss(theta):
        def body(state, key):
            return problem.step(key, theta, state, None)

        return jax.lax.scan(body, problem.init(start, theta), steps)[1].sum()

    return jax.grad(loss)(theta)


@pytest.mark.parametrize("windows", [1, 3, 4])
def test_rtrl_is_autodiff_summed_over_an_episode(windows):
    shares = estimates("rtrl", windows=windows, window=LENGTH // windows, length=LENGTH)
    exact = autodiff_of_episodes(windows, from_theta(), THETA, KEY)
    np.testing.assert_allclose(shares.sum(axis=0), exact, rtol=1e-4)


def test_full_backprop_is_autodiff():
    share = estimates("full_backprop", windows=1, length=LENGTH, window=LENGTH)
    exact = autodiff_of_episodes(1, from_theta(), THETA, KEY)
    np.testing.assert_allclose(share[0], exact, rtol=1e-5)


def test_truncated_backprop_of_whole_episodes_is_full_backprop():
    settings = dict(window=LENGTH, length=LENGTH)
    np.testing.assert_array_equal(
        estimates("truncated_backprop", **settings), estimates("full_backprop", **settings)
    )


@pytest.mark.parametrize("name", ["uoro", "dodge"])
def test_random_directions_give_the_gradient_of_a_nonlinear_episode_on_average(name):
    """4,000 draws for one and the same episode, told apart by their own keys alone."""
    problem = from_theta()
    fixed = problem._replace(
        init=lambda key, theta: problem.init(KEY, theta),
        step=lambda key, theta, state, data: problem.step(
            jax.random.fold_in(KEY, state[1]), theta, state, data
        ),
    )
    estimator = make(name, fixed, window=4, length=LENGTH, episodes=4_000)

    def run(key):
        def body(state, key):
            gradient, state, _ = estimator.step(key, THETA, state, None)
            return state, gradient

        keys = jax.random.split(key, 3)
        return jax.lax.scan(body, estimator.init(key, THETA), keys)[1].sum(axis=0)

    sums = np.asarray(jax.jit(partial(jax.lax.map, run))(jax.random.split(KEY, 40)))
    exact = jax.grad(partial(total_loss, fixed))(THETA, LENGTH)
    error_bar = sums.std(axis=0, ddof=1) / np.sqrt(len(sums))
    assert (np.abs(sums.mean(axis=0) - exact) < 5 * error_bar).all()
    assert np.linalg.norm(error_bar) < 0.02 * np.linalg.norm(exact)


def test_golden_estimates_on_influence_balancing(monkeypatch):
    """The first five estimates of the public implementation of PES, for the same draws."""
    draws = []
    monkeypatch.setattr(antithetic, "sample_normal", lambda keys, theta: draws.pop())
    estimator = ESTIMATORS["pes"](influence_balancing(), window=1, particles=8, sigma=0.1)
    theta = jnp.asarray(0.5)
    key = jax.random.PRNGKey(0)
    state, found = estimator.init(key, theta), []
    for _ in range(5):
        key, draw = jax.random.split(key)
        draws.append(jax.random.normal(draw, (4,)))
        gradient, state, _ = estimator.step(key, theta, state, None)
        found.append(float(gradient))
    np.testing.assert_allclose(found, [1.28460, 5.18601, 12.99002, 33.16383, 48.22510], rtol=2e-5)


def test_a_mixture_is_the_weighted_mean_of_its_parts():
    settings = dict(window=3, **ES)
    parts = [("pes", 0.7, {}), ("truncated_backprop", 0.3, {"episodes": 3})]
    mixed = estimates("mixture", components=parts, windows=1, **settings)
    keys = jax.random.split(jax.random.split(KEY, 1)[0], 2)
    expected = 0
    for (name, weight, own), key in zip(parts, keys, strict=True):
        estimator = make(name, from_theta(), **settings, **own)
        expected += weight * estimator.step(key, THETA, estimator.init(key, THETA), None)[0]
    np.testing.assert_allclose(mixed[0], expected, rtol=1e-5)
