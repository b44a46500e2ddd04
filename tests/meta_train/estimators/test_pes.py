"""PES against closed forms: unbiased at several σ and windows, with its exact variance.

The checks are themselves checked: every fault planted below must be caught by one of them.
"""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import ESTIMATORS
from tests.meta_train.estimators.problems import (
    DIRECTION,
    QUADRATIC_THETA,
    drift,
    influence_balancing,
    noise_only,
    quadratic,
    total_loss,
)

pes_module = importlib.import_module("meta_train.estimators.pes")
THETA = jnp.asarray([0.4, -1.0, 2.0])
EPISODES = 60


def episode_sums(problem, theta, *, window, length, sigma, particles, reduction="sum", seeds=1):
    """Σ of the estimates of an episode over N/2 pairs: [seeds·EPISODES, P], independent rows."""
    estimator = ESTIMATORS["pes"](
        problem,
        window=window,
        particles=particles,
        sigma=sigma,
        length=length,
        reduction=reduction,
    )

    def run(key):
        def body(state, key):
            gradient, state, info = estimator.step(key, theta, state, None)
            return state, (
                jnp.concatenate([g.reshape(-1) for g in jax.tree.leaves(gradient)]),
                info,
            )

        windows = EPISODES * length // window
        return jax.lax.scan(body, estimator.init(key, theta), jax.random.split(key, windows))[1]

    estimates, info = jax.jit(partial(jax.lax.map, run))(jax.random.split(jax.random.key(0), seeds))
    assert not np.asarray(info.diverged).any()
    return np.asarray(estimates, float).reshape(seeds * EPISODES, length // window, -1).sum(axis=1)


def deviation(samples, expected):
    """Largest |mean − expected| in standard errors, and the relative size of the error bar."""
    standard_error = np.maximum(samples.std(axis=0, ddof=1), 1e-9) / np.sqrt(len(samples))
    return (
        np.max(np.abs(samples.mean(axis=0) - expected) / standard_error),
        np.linalg.norm(standard_error) / np.linalg.norm(expected),
    )


def check_unbiased(problem, theta, expected, *, sigma, window, length):
    samples = episode_sums(
        problem, theta, sigma=sigma, window=window, length=length, particles=2_000
    )
    errors, relative_error_bar = deviation(samples, expected)
    assert errors < 5
    if relative_error_bar > 0.02:
        raise RuntimeError("no power: a fault of 10 % would pass")


def check_drift(sigma=0.3, window=3, length=12):
    expected = np.asarray(DIRECTION) * length * (length - 1) / 2
    check_unbiased(drift(), THETA, expected, sigma=sigma, window=window, length=length)


def check_quadratic(sigma=0.3, window=3, length=12):
    gradient = jax.grad(partial(total_loss, quadratic()))(QUADRATIC_THETA, length)
    expected = np.concatenate([np.reshape(g, -1) for g in jax.tree.leaves(gradient)])
    check_unbiased(
        quadratic(), QUADRATIC_THETA, expected, sigma=sigma, window=window, length=length
    )


@pytest.mark.parametrize("window", [3, 4])
@pytest.mark.parametrize("sigma", [0.03, 0.3, 3.0])
def test_unbiased_on_drift(sigma, window):
    check_drift(sigma, window)


@pytest.mark.parametrize("window", [3, 4])
@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.5])
def test_unbiased_on_a_quadratic(sigma, window):
    check_quadratic(sigma, window)


def test_mean_divides_by_the_window():
    settings = dict(sigma=0.3, window=4, length=12, particles=20)
    sums = episode_sums(drift(), THETA, **settings)
    means = episode_sums(drift(), THETA, **settings, reduction="mean")
    np.testing.assert_allclose(means, sums / 4, rtol=1e-4, atol=1e-4)


def exact_variance(window, length, pairs):
    """tr Var of an episode's sum on drift: P·Σ‖G_{tτ}‖² + Σ⟨G_{tτ}, G_{τt}⟩, over the pairs."""
    windows = length // window
    times = np.arange(length)
    # ∂(loss of window s)/∂θ_τ = c · #{steps of window τ before step t}, over t in window s.
    before = np.clip(times[None, :] - window * np.arange(windows)[:, None], 0, window)
    influence = before.reshape(windows, windows, window).sum(axis=2)  # [τ, s]
    size = np.array(
        [[influence[tau, max(t, tau) :].sum() for tau in range(windows)] for t in range(windows)]
    )
    squared = float(np.dot(DIRECTION, DIRECTION))
    return squared * (len(DIRECTION) * (size**2).sum() + (size * size.T).sum()) / pairs


def check_variance(window=3, length=12, particles=40):
    samples = episode_sums(
        drift(), THETA, sigma=0.3, window=window, length=length, particles=particles, seeds=40
    )
    expected = exact_variance(window, length, particles // 2)
    assert samples.var(axis=0, ddof=1).sum() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("window", [2, 3, 12])
def test_variance_is_the_exact_one(window):
    check_variance(window)


def check_noise_only():
    samples = episode_sums(noise_only(), THETA, sigma=0.1, window=2, length=8, particles=10)
    assert not samples.any()


def test_exactly_zero_where_the_loss_does_not_depend_on_theta():
    check_noise_only()


def test_golden_estimates_on_influence_balancing(monkeypatch):
    """The first five estimates of the public implementation, for the same draws."""
    draws = []

    def recorded(keys, theta, sigma):
        del keys, theta, sigma
        return draws.pop()

    monkeypatch.setattr(pes_module, "sample_noise", recorded)
    estimator = ESTIMATORS["pes"](influence_balancing(), window=1, particles=8, sigma=0.1)
    theta = jnp.asarray(0.5)
    key = jax.random.PRNGKey(0)
    state, estimates = estimator.init(key, theta), []
    for _ in range(5):
        key, draw = jax.random.split(key)
        draws.append(jax.random.normal(draw, (4,)) * 0.1)
        gradient, state, _ = estimator.step(key, theta, state, None)
        estimates.append(float(gradient))
    np.testing.assert_allclose(
        estimates, [1.28460, 5.18601, 12.99002, 33.16383, 48.22510], rtol=2e-5
    )


def scaled_credit(factor):
    def fault(original, noise, losses, sigma):
        gradient, finite = original(noise, losses, sigma)
        return jax.tree.map(lambda g: g * factor(sigma), gradient), finite

    return fault


def fresh_credit(original, noise, losses, sigma):
    keys = jax.random.split(jax.random.key(7), losses.shape[0])
    return original(pes_module.sample_noise(keys, noise_template(noise), sigma), losses, sigma)


def noise_template(noise):
    return jax.tree.map(lambda x: x[0], noise)


def no_restart(original, keys, episodes, **settings):
    restart, episodes = original(keys, episodes, **settings)
    return restart & (episodes.begun == 1), episodes


def every_window_restarts(original, keys, episodes, **settings):
    restart, episodes = original(keys, episodes, **settings)
    return jnp.ones_like(restart), episodes


def late_restart(original, keys, episodes, **settings):
    late = episodes._replace(length=jnp.where(episodes.begun > 0, episodes.length + 3, 0))
    restart, begun = original(keys, late, **settings)
    return restart, begun._replace(length=jnp.where(restart, begun.length, episodes.length))


def unequal_signs(original, problem, window, reduce, layout, pairs, theta, data):
    inner, losses = original(problem, window, reduce, layout, pairs, theta, data)
    return inner, losses._replace(value=losses.value.at[:, 1].add(1e-3))


def other_perturbation(original, problem, window, reduce, layout, pairs, theta, data):
    rolled = pairs._replace(noise=jax.tree.map(lambda e: jnp.roll(e, 1, axis=0), pairs.noise))
    return original(problem, window, reduce, layout, rolled, theta, data)


def same_sign(original, problem, window, reduce, layout, pairs, theta, data):
    positive = pairs._replace(noise=jax.tree.map(jnp.abs, pairs.noise))
    return original(problem, window, reduce, layout, positive, theta, data)


def noise_of_a_neighbour(original, noise, losses, sigma):
    return original(jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), noise), losses, sigma)


def noise_not_redrawn(original, keys, theta, sigma):
    """The same in every window."""
    return original(jax.random.split(jax.random.key(5), len(keys)), theta, sigma)


def only_past_noise(original, noise, losses, sigma):
    """ξ without the noise of the window itself, which the test below keeps."""
    return original(jax.tree.map(jnp.subtract, noise, NOISE_OF_THE_WINDOW[-1]), losses, sigma)


NOISE_OF_THE_WINDOW = []  # of the trace at hand

FAULTS = {
    "factor 2 missing": ("credit", scaled_credit(lambda sigma: 2)),
    "σ for σ²": ("credit", scaled_credit(lambda sigma: sigma)),
    "sign not negated": ("credit", scaled_credit(lambda sigma: -1)),
    "window counted twice": ("credit", scaled_credit(lambda sigma: 1 / 3)),
    "other noise credited": ("credit", fresh_credit),
    "noise of another pair credited": ("credit", noise_of_a_neighbour),
    "only past noise credited": ("credit", only_past_noise),
    "noise not redrawn": ("sample_noise", noise_not_redrawn),
    "accumulator never reset": ("begin_episodes", no_restart),
    "accumulator reset every window": ("begin_episodes", every_window_restarts),
    "reset one window late": ("begin_episodes", late_restart),
    "members of a pair see other losses": ("unroll_pairs", unequal_signs),
    "unrolled with the noise of another pair": ("unroll_pairs", other_perturbation),
    "unrolled with |ε|": ("unroll_pairs", same_sign),
}


def kept(sample, *arguments):
    NOISE_OF_THE_WINDOW.append(sample(*arguments))
    return NOISE_OF_THE_WINDOW[-1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    name, wrong = FAULTS[fault]
    monkeypatch.setattr(pes_module, "sample_noise", partial(kept, pes_module.sample_noise))
    monkeypatch.setattr(pes_module, name, partial(wrong, getattr(pes_module, name)))
    for check in (check_quadratic, check_drift, check_noise_only):
        try:
            check()
        except AssertionError:
            return
    pytest.fail(f"no check caught {fault!r}")


def test_a_diverged_pair_is_left_out_counted_and_restarted():
    bad = 1

    def step(key, theta, state, data):
        del key
        age, diverges = state
        loss = jnp.where(diverges & (age >= 2), jnp.nan, jnp.dot(theta, theta))
        return (age + 1, diverges), loss + data

    def init(key, theta):
        return jnp.zeros((), jnp.int32), jax.random.key_data(key)[-1] == marked

    from meta_train import UnrolledProblem

    settings = dict(window=2, particles=8, sigma=0.1, length=8)
    healthy = ESTIMATORS["pes"](UnrolledProblem(init, step), **settings)
    key = jax.random.key(3)
    # The pair whose inner state is to diverge is recognised by its initialisation key.
    key_init = jax.random.split(key, 4)[2]
    marked = jax.random.key_data(jax.random.fold_in(key_init, bad))[-1]
    state = healthy.init(key, THETA)
    _, state, info = healthy.step(key, THETA, state, 0.0)
    assert int(info.diverged) == 0
    assert int(info.restarts) == 4

    key = jax.random.key(4)
    before = state
    gradient, state, info = healthy.step(key, THETA, state, 0.0)
    assert int(info.diverged) == 1
    assert np.isnan(info.losses[bad]).all()
    assert not np.isnan(np.delete(info.losses, bad, axis=0)).any()
    noise = pes_module.sample_noise(
        jax.vmap(lambda i: jax.random.fold_in(jax.random.split(key, 4)[0], i))(jnp.arange(4)),
        THETA,
        0.1,
    )
    credited = before.accumulator + noise
    gap = np.asarray(info.losses[:, 0] - info.losses[:, 1])
    kept = [i for i in range(4) if i != bad]
    expected = sum(gap[i] * credited[i] for i in kept) / (2 * 0.1**2 * len(kept))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)

    marked = None
    _, _, info = healthy.step(jax.random.key(5), THETA, state, 0.0)
    assert int(info.restarts) == 1
    assert int(info.ages[bad]) == 2
    assert list(np.delete(info.ages, bad)) == [6, 6, 6]
