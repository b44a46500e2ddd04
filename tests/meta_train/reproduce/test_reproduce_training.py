"""Meta-training of several seeds in one call is what a plain loop does."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.estimators import ESTIMATORS
from meta_train.problems.drift import drift
from meta_train.reproduce.measures import at, in_words, late_mean
from meta_train.reproduce.training import (
    History,
    one_by_one,
    run_seeds,
    seed_keys,
    side_by_side,
    trajectory,
)

THETA = jnp.asarray([0.4, -1.0])
ESTIMATOR = ESTIMATORS["pes"](
    drift(jnp.asarray([1.0, -2.0])), window=2, particles=4, sigma=0.1, length=6
)
OPTIMIZER = optax.adam(0.1)
SETTINGS = {"theta": THETA, "data": 3.0, "updates": 8, "every": 4, "seeds": 2}


def metric(theta, data):
    return {"scaled": data * theta.sum()}


def by_a_loop(seed):
    """θ after 0, 4 and 8 updates."""
    key_init, root = jax.random.split(jax.random.key(seed))
    theta, outer, state = THETA, OPTIMIZER.init(THETA), ESTIMATOR.init(key_init, THETA)
    thetas, step = [theta], jax.jit(ESTIMATOR.step)
    for k in range(8):
        gradient, state, _ = step(jax.random.fold_in(root, k), theta, state, 3.0)
        change, outer = OPTIMIZER.update(gradient, outer, theta)
        theta = optax.apply_updates(theta, change)
        thetas.append(theta)
    return np.stack(thetas[::4])


@pytest.mark.parametrize("over_seeds", [jax.vmap, one_by_one])
def test_the_same_as_a_loop(over_seeds):
    history = run_seeds(ESTIMATOR, OPTIMIZER, metric, **SETTINGS, over_seeds=over_seeds)
    np.testing.assert_array_equal(history.updates, [0, 4, 8])
    for seed in range(2):
        np.testing.assert_allclose(history.theta[seed], by_a_loop(seed), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        history.metric["scaled"], 3 * history.theta.sum(axis=-1), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(history.theta[0, -1], history.theta[1, -1])


def test_a_diverged_run_leaves_the_others_alone():
    def poisoned(theta, data):
        return jnp.where(data > 0, theta.sum(), jnp.nan)

    history = run_seeds(ESTIMATOR, OPTIMIZER, poisoned, **{**SETTINGS, "data": -1.0})
    assert np.isnan(history.metric).all()
    assert np.isfinite(history.theta).all()


@pytest.mark.parametrize("every", [3, 0])
def test_points_that_do_not_divide_are_refused(every):
    with pytest.raises(ValueError, match=f"`every`={every} does not divide `updates`=8"):
        trajectory(ESTIMATOR, OPTIMIZER, metric, updates=8, every=every)


def test_seeds_have_the_keys_of_their_numbers():
    np.testing.assert_array_equal(
        jax.random.key_data(seed_keys(3))[2], jax.random.key_data(jax.random.key(2))
    )


def test_jobs_run_at_the_same_time_each_on_a_device_of_its_own():
    together = threading.Barrier(2, timeout=30)

    def job():
        together.wait()
        return jnp.zeros(()).devices()

    places = side_by_side({"a": job, ("b", 1): job})
    assert list(places) == ["a", ("b", 1)]
    assert places["a"] != places["b", 1]


def test_a_job_that_fails_is_heard():
    def failing():
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        side_by_side({"a": failing, "b": lambda: 1})


def test_measures():
    history = History(np.array([0, 5, 10]), None, np.array([[9.0, 2.0, 1.0], [9.0, 4.0, 3.0]]))
    np.testing.assert_array_equal(at(history, 5), [2, 4])
    with pytest.raises(ValueError, match="`update`=7: no point was recorded there"):
        at(history, 7)
    np.testing.assert_array_equal(late_mean(history.metric), [1, 3])
    np.testing.assert_array_equal(late_mean(np.arange(20.0).reshape(2, 10)), [8, 18])
    assert in_words(np.array([3.0, 1.0, 2.0])) == "2 (1 to 3)"
    assert in_words(np.array([2.00001, 2.0])) == "2"
