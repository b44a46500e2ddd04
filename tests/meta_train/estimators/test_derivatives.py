"""Problems without a derivative: refused by those that need one, for the reason there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import UnrolledProblem
from meta_train.estimators.derivatives import dependences, split_floating
from tests.meta_train.estimators.problems import THETA, noise_only
from tests.meta_train.estimators.proofs import DIFFERENTIATE, make

NEED_ONE = [*DIFFERENTIATE, "pes_analytic"]
SETTINGS = dict(window=2, particles=6, sigma=0.1, length=8)
KEY = jax.random.key(0)


def one_step(name, problem):
    estimator = make(name, problem, **SETTINGS)
    return estimator.step(KEY, THETA, estimator.init(KEY, THETA), None)


def accuracy_of(state):
    return -jnp.mean((state > 0).astype(jnp.float32))


def with_loss(loss):
    """s ← s + θ from 0, and a loss of s."""

    def step(key, theta, state, data):
        del key, data
        return state + theta, loss(state)

    return UnrolledProblem(lambda key, theta: jnp.zeros_like(theta), step)


def telescoped_accuracy():
    def step(key, theta, state, data):
        del key, data
        position, last = state
        now = accuracy_of(position)
        return (position + theta, now), now - last

    return UnrolledProblem(lambda key, theta: (jnp.zeros_like(theta), jnp.zeros(())), step)


def by_callback():
    def measure(x):
        return np.asarray(np.square(x).sum(), np.float32)

    return with_loss(
        lambda state: jax.pure_callback(
            measure, jax.ShapeDtypeStruct((), jnp.float32), state, vmap_method="sequential"
        )
    )


@pytest.mark.parametrize("name", NEED_ONE)
@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (with_loss(accuracy_of), "zero everywhere"),
        (with_loss(jax.jit(accuracy_of)), "zero everywhere"),
        (with_loss(lambda s: jnp.floor(s).sum()), "zero everywhere"),
        (telescoped_accuracy(), "zero everywhere"),
        (by_callback(), "JAX cannot take it"),
    ],
)
def test_a_problem_without_a_derivative_is_refused(name, problem, reason):
    with pytest.raises(ValueError, match=f"`{name}` needs .*{reason}.*choose an evolution-strat"):
        one_step(name, problem)


def by_a_loop():
    """A number of times that the state decides: JAX differentiates it forward alone."""

    def loss(state):
        def double(pair):
            return pair[0] + 1, 2 * pair[1]

        return jax.lax.while_loop(lambda pair: pair[0] < 2, double, (0, state.sum()))[1]

    return with_loss(loss)


@pytest.mark.parametrize("name", NEED_ONE)
def test_a_problem_with_a_forward_derivative_alone_is_for_those_that_need_no_other(name):
    if name in ("rtrl", "dodge"):
        assert np.asarray(one_step(name, by_a_loop())[0]).any()
        return
    with pytest.raises(ValueError, match=f"`{name}` needs .* in reverse mode, and JAX cannot"):
        one_step(name, by_a_loop())


@pytest.mark.parametrize("name", NEED_ONE)
def test_a_loss_that_does_not_depend_on_theta_has_the_gradient_zero(name):
    assert not np.asarray(one_step(name, noise_only())[0]).any()


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_evolution_strategies_take_callbacks(name):
    gradient, *_ = one_step(name, by_callback())
    assert np.asarray(gradient).any()


def test_influence_may_take_several_steps_to_reach_the_loss():
    """θ moves the first of three numbers, which are passed on; the loss is the last."""

    def step(key, theta, state, data):
        del key, data
        return [theta.sum(), state[0], state[1]], state[2]

    problem = UnrolledProblem(lambda key, theta: [jnp.zeros(())] * 3, step)
    estimator = make("rtrl", problem, window=6, length=6)
    gradient, *_ = estimator.step(KEY, THETA, estimator.init(KEY, THETA), None)
    np.testing.assert_allclose(gradient, 3.0)  # of six steps, three see it


def test_a_state_with_keys_and_integers_is_taken_apart_and_joined():
    state = {"n": jnp.asarray(3), "key": jax.random.key(1), "x": jnp.ones(2), "flag": True}
    state["flag"] = jnp.asarray(True)
    floats, others, join = split_floating(state)
    assert [leaf.shape for leaf in floats] == [(2,)]
    joined = join([2 * floats[0]], others)
    np.testing.assert_array_equal(joined["x"], [2.0, 2.0])
    assert int(joined["n"]) == 3
    assert jnp.issubdtype(joined["key"].dtype, jax.dtypes.prng_key)


def test_dependences_follow_calls():
    @jax.jit
    def inner(a, b):
        return b * 2, a + 1

    def function(x, y, z):
        first, second = inner(x, y)
        return first, second, jax.lax.cumsum(z) + second, jnp.zeros(3)

    found = dependences(jax.make_jaxpr(function)(THETA, THETA, THETA).jaxpr)
    assert found == [{1}, {0}, {0, 2}, set()]
