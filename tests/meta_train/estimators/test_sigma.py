"""σ: one number, one for every leaf of θ, a schedule."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.estimators.noise import sigma_like
from tests.meta_train.estimators.problems import (
    QUADRATIC,
    QUADRATIC_THETA,
    flat,
    total_loss,
)
from tests.meta_train.estimators.proofs import deviation, make

pytestmark = pytest.mark.slow

LENGTH = 12
KEY = jax.random.key(0)


def draws_of_first_window(estimator):
    """ε of every pair, from the θ that the initial state remembers."""
    _, state, _ = estimator.step(KEY, QUADRATIC_THETA, estimator.init(KEY, QUADRATIC_THETA), None)
    return state


@pytest.mark.parametrize("name", ["nres", "gpes"])
def test_every_leaf_has_its_sigma(name):
    sigma = {"a": 0.01, "b": 1.0}
    settings = dict(window=3, length=LENGTH, particles=4_000)
    memory = draws_of_first_window(make(name, QUADRATIC, **settings, sigma=sigma)).memory
    for leaf, scale in sigma.items():
        assert np.std(memory.noise[leaf]) == pytest.approx(scale, rel=0.1)
        assert np.std(memory[1][leaf]) == pytest.approx(1 / scale, rel=0.1)


def test_a_prefix_of_theta_will_do():
    theta = {"layer": {"w": jnp.ones(2), "b": jnp.ones(())}, "rate": jnp.ones(())}
    scales = sigma_like({"layer": 0.1, "rate": 2.0}, jnp.zeros(()), theta)
    np.testing.assert_allclose(scales["layer"]["w"], 0.1)
    np.testing.assert_allclose(scales["rate"], 2.0)


def test_a_sigma_that_does_not_fit_theta_is_refused():
    estimator = make("pes", QUADRATIC, window=3, particles=4, sigma={"a": 0.1, "c": 0.2})
    with pytest.raises(ValueError, match=r"`sigma` with the structure .* is no prefix of θ"):
        estimator.init(KEY, QUADRATIC_THETA)


@pytest.mark.parametrize("name", ["full_es", "pes", "nres", "gpes", "pes_analytic"])
def test_unbiased_while_sigma_falls_and_differs_by_leaf(name):
    """σ halves in every window, so that noise of one episode has several."""
    decay = optax.exponential_decay(1.0, 1, 0.5)

    def sigma(count):
        return {"a": 0.1 * decay(count % 4), "b": 0.4 * decay(count % 4)}

    estimator = make(name, QUADRATIC, window=3, length=LENGTH, particles=5_000, sigma=sigma)
    windows = 60 * (1 if name == "full_es" else 4)

    def body(state, key):
        gradient, state, _ = estimator.step(key, QUADRATIC_THETA, state, None)
        return state, gradient

    state = estimator.init(KEY, QUADRATIC_THETA)
    run = jax.jit(partial(jax.lax.scan, body))
    sums = flat(run(state, jax.random.split(KEY, windows))[1]).reshape(60, -1, 3).sum(axis=1)
    exact = jax.grad(partial(total_loss, QUADRATIC))(QUADRATIC_THETA, LENGTH)
    errors, error_bar = deviation(sums, flat(jax.tree.map(lambda g: g[None], exact))[0])
    assert errors < 5
    assert error_bar < 0.03


def test_a_schedule_that_has_come_to_zero_gives_an_estimate_of_zero():
    schedule = optax.cosine_decay_schedule(0.1, 3)
    estimator = make("pes", QUADRATIC, window=3, particles=4, sigma=schedule)
    state = estimator.init(KEY, QUADRATIC_THETA)
    for _ in range(4):
        gradient, state, _ = estimator.step(KEY, QUADRATIC_THETA, state, None)
        assert np.isfinite(flat(jax.tree.map(lambda g: g[None], gradient))).all()
    fresh = estimator.init(KEY, QUADRATIC_THETA)._replace(windows=jnp.asarray(9))
    gradient, *_ = estimator.step(KEY, QUADRATIC_THETA, fresh, None)
    assert not flat(jax.tree.map(lambda g: g[None], gradient)).any()


def test_a_sigma_that_the_precision_of_theta_cannot_hold_is_refused():
    estimator = make("pes", QUADRATIC, window=3, particles=4, sigma=1e-8)
    theta = jax.tree.map(lambda x: x.astype(jnp.float16), QUADRATIC_THETA)
    with pytest.raises(ValueError, match="`sigma`=1e-08 is 0 in float16"):
        estimator.init(KEY, theta)
