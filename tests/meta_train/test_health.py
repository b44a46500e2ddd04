"""Updates whose meta-gradient explodes are skipped and counted; the others are as they were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.estimators import EstimatorInfo, GradientEstimator
from meta_train.health import RECENT, Health, examined, healthy, is_harmful
from meta_train.meta_training import METRICS, meta_training, outer_step
from meta_train.parallel import device_mesh

LIMIT = 10.0
LOG_EVERY = 10


class Counted(NamedTuple):
    inner: Any
    windows: jax.Array


def scripted():
    """An estimator whose gradient in window k is data[k], and which counts its windows."""

    def step(key, theta, state, data):
        gradient = data[state.windows]
        info = EstimatorInfo(
            losses=jnp.ones((2, 2)),
            sign_gap=jnp.zeros(2),
            ages=jnp.ones(2, jnp.int32),
            restarts=jnp.zeros((), jnp.int32),
            diverged=(state.windows % 3 == 0).astype(jnp.int32),
            accumulator_norm=jnp.zeros(2),
            variance=jnp.ones(()),
            signal_to_noise=jnp.ones(()),
        )
        return gradient, state._replace(windows=state.windows + 1), info

    return GradientEstimator(
        lambda key, theta: Counted(jnp.zeros((2, 1)), jnp.zeros((), jnp.int32)), step
    )


@pytest.fixture(scope="module")
def training():
    mesh = device_mesh(1, jax.devices()[:1])
    sgd = optax.sgd(1.0, momentum=0.5)
    outer = outer_step(sgd, log_every=LOG_EVERY, gradient_limit=LIMIT)
    return meta_training(lambda key: jnp.zeros(()), lambda update: scripted(), outer, mesh)


KEY = jax.random.key(0)
ORDINARY = np.where(np.arange(300) % 2, 1.0, -2.0).astype(np.float32)


def after(training, gradients, calls):
    state = training.init(KEY)
    for count in calls:
        state, metrics = training.advance(state, np.int32(count), KEY, jnp.asarray(gradients))
    return jax.device_get(state), jax.device_get(metrics)


def by_hand(gradients, skipped):
    """θ of SGD with momentum ½ that never meets the gradients at the places ``skipped``."""
    theta = momentum = np.float32(0)
    for place, gradient in enumerate(gradients):
        if place not in skipped:
            momentum = np.float32(gradient + np.float32(0.5) * momentum)
            theta = np.float32(theta - momentum)
    return theta


def exploding(changes):
    gradients = ORDINARY.copy()
    for place, value in changes.items():
        gradients[place] = value
    return gradients


@pytest.mark.parametrize(
    ("changes", "skipped"),
    [
        ({}, set()),
        ({3: np.inf}, {3}),
        ({3: np.nan, 4: -np.inf, 5: np.nan}, {3, 4, 5}),
        ({RECENT - 1: 1e18}, set()),  # nothing to compare it with yet; its square is finite
        ({RECENT: 1e30, 90: np.nan}, {RECENT, 90}),
        ({80: 2 * LIMIT, 90: -2.1 * LIMIT}, {90}),  # the median of 1 and 2 is the upper one
        ({k: 1e6 for k in range(65, 99)}, set(range(65, 99))),  # nor do they move the median
    ],
)
def test_updates_that_explode_leave_theta_and_the_outer_state(training, changes, skipped):
    gradients = exploding(changes)
    state, metrics = after(training, gradients, [99])
    assert float(state.theta) == by_hand(gradients[:99], skipped)
    assert int(state.step) == int(state.estimator.windows) == 99
    assert (int(state.health.made), int(state.health.skipped)) == (99 - len(skipped), len(skipped))
    made = [abs(g) for place, g in enumerate(gradients[:99]) if place not in skipped]
    recent = np.zeros(RECENT, np.float32)
    recent[: len(made)] = made[-RECENT:]
    np.testing.assert_array_equal(np.sort(state.health.norms), np.sort(recent))
    assert int(state.health.diverged) == 33
    longest = longest_run(skipped)
    assert int(state.health.longest_skipped) == int(metrics["longest_skipped"]) == longest
    assert metrics["skipped_updates"] == len(skipped & set(range(90, 99)))  # of this row
    assert set(metrics) == set(METRICS)


def longest_run(places):
    return max((next(n for n in range(1, 99) if p + n not in places) for p in places), default=0)


def test_calls_of_any_length_make_the_same_rows_bit_for_bit(training):
    gradients = exploding({70: np.nan, 84: 1e9}) * np.linspace(1, 1.3, 300, dtype=np.float32)
    state, metrics = after(training, gradients, [99])
    for calls in ([1] * 99, [5, 60, 3, 30, 1]):
        again, last = after(training, gradients, calls)
        jax.tree.map(np.testing.assert_array_equal, again, state)
        jax.tree.map(np.testing.assert_array_equal, last, metrics)
    assert training.advance._cache_size() == 1
    norms = np.abs(gradients[90:99])
    np.testing.assert_allclose(metrics["meta_gradient_norm"], norms.mean(), rtol=1e-6)


def test_gradients_that_are_mostly_zero_set_no_limit():
    norms = jnp.where(jnp.arange(RECENT) < RECENT // 2 + 1, 0.0, 1.0)
    health = healthy()._replace(norms=norms, made=jnp.asarray(RECENT))
    assert not is_harmful(jnp.asarray(1e20), health, LIMIT)
    assert is_harmful(jnp.asarray(1e20), health._replace(norms=norms + 1), LIMIT)


def test_the_median_follows_the_last_norms():
    """A run whose gradients grow slowly by orders of magnitude skips nothing."""
    health = healthy()

    @jax.jit
    def grow(health: Health, norm: jax.Array) -> tuple[Health, jax.Array]:
        skip = is_harmful(norm, health, LIMIT)
        return examined(health, norm, skip, jnp.zeros((), jnp.int32)), skip

    for k in range(400):
        health, skip = grow(health, jnp.asarray(10.0 ** (k / 50), jnp.float32))
        assert not skip
    assert int(health.made) == 400
