"""Tasks of a list are made comparable, by the rule at the top of `task_scale`."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import LearnedOptimizer
from meta_train.assemble import prepare
from meta_train.config import ConfigError, check_config
from meta_train.estimators import GradientEstimator
from meta_train.estimators.base import ALL_AT_ONCE, EstimatorInfo
from meta_train.presets import TINY
from meta_train.rule import TrainedRule
from meta_train.task_scale import WINDOWS, normalized
from tests.meta_train.stubs import scalar_family

CONFIG = dataclasses.replace(TINY, particles=8, sigma=0.02)
SIGN_SGD = LearnedOptimizer(
    "sign_sgd",
    {},
    lambda key: jnp.asarray(0.1),
    lambda rate, num_steps=None: optax.with_extra_args_support(optax.sign_sgd(rate)),
)
"""Steps that do not depend on the unit of the loss."""
RULE = TrainedRule(SIGN_SGD, SIGN_SGD, lambda theta: theta)


def family(factor):
    """Losses, and the loss at the start, ``factor`` times as large; and an accuracy."""
    scalar = scalar_family(lambda x, target: factor * 0.5 * (x - target) ** 2, 0.5 * factor)

    def build(cfg):
        task = scalar.build(cfg)

        def loss(*arguments):
            value, (model_state, _) = task.loss(*arguments)
            return value, (model_state, {"accuracy": jnp.asarray(0.25)})

        return task._replace(loss=loss)

    return scalar._replace(build=build)


def first_window(scale, factor, *, alone=False, theta=0.3, **changes):
    """(gradient, info) of the first window of a task."""
    config = dataclasses.replace(CONFIG, task_scale=scale, **changes)
    estimator_at, data = prepare(config, family(factor), RULE, ALL_AT_ONCE, alone=alone)
    estimator, theta = estimator_at(jnp.int32(0)), jnp.asarray(theta)
    key = jax.random.key(0)
    gradient, _, info = jax.jit(estimator.step)(key, theta, estimator.init(key, theta), data)
    return float(gradient), info


@pytest.mark.parametrize("transform", ["identity", "clip:1e-6"])
def test_a_loss_in_larger_units_has_the_same_gradient(transform):
    one, info = first_window("initial_loss", 1.0, transform=transform)
    assert one != 0
    thousand, other = first_window("initial_loss", 1000.0, transform=transform)
    np.testing.assert_allclose(thousand, one, rtol=2e-3)
    np.testing.assert_allclose(other.losses, info.losses, rtol=1e-4)


def test_without_a_scale_the_larger_dominates():
    one, _ = first_window("none", 1.0)
    thousand, info = first_window("none", 1000.0)
    np.testing.assert_allclose(thousand, 1000 * one, rtol=2e-3)
    np.testing.assert_allclose(info.losses, 1000 * first_window("none", 1.0)[1].losses, rtol=1e-4)


@pytest.mark.parametrize("scale", ["initial_loss", "gradient_norm"])
def test_a_task_alone_is_as_it_is(scale):
    expected, info = first_window("none", 1000.0, alone=True)
    found, other = first_window(scale, 1000.0, alone=True)
    assert found == expected
    np.testing.assert_array_equal(other.losses, info.losses)


@pytest.mark.parametrize(("scale", "bound"), [("none", 1.5 * 5.0), ("initial_loss", 1.5)])
def test_losses_are_bounded_in_the_same_unit(scale, bound):
    """By 1.5 initial losses, here by steps that are far too long."""
    _, info = first_window(scale, 10.0, theta=1e3)
    assert (info.losses <= bound * (1 + 1e-6)).all()
    assert (info.losses > 0.7 * bound).all()


def test_an_accuracy_has_a_unit_of_its_own():
    _, info = first_window("initial_loss", 1000.0, meta_loss="validation_accuracy")
    np.testing.assert_allclose(info.losses, -0.25)


class Counting(NamedTuple):
    inner: Any
    count: jax.Array


def recorded(gradients):
    """An estimator that gives these gradients, one a window, with a variance of 4."""
    gradients, zeros = jnp.asarray(gradients), jnp.zeros((1, 2))

    def step(key, theta, state, data=None):
        del key, theta, data
        info = EstimatorInfo(zeros, zeros[0], zeros[0], 0, 0, zeros[0], jnp.asarray(4.0), 1.0)
        return gradients[state.count], Counting((), state.count + 1), info

    return GradientEstimator(lambda key, theta: Counting((), jnp.int32(0)), step)


def normalized_gradients(gradients):
    """What the windows give, and their variances."""
    estimator = normalized(recorded(gradients))
    state = estimator.init(jax.random.key(0), jnp.zeros(2))

    def window(state, _):
        gradient, state, info = estimator.step(None, jnp.zeros(2), state)
        return state, (gradient, info.variance)

    return jax.lax.scan(window, state, length=len(gradients))[1]


def test_gradients_are_divided_by_the_norm_of_those_before():
    """Against the rule, in float64."""
    random = np.random.default_rng(0)
    gradients = random.normal(size=(300, 2)) * np.exp(random.normal(size=(300, 1)))
    found, variances = normalized_gradients(gradients.astype(np.float32))
    squares, mean = (gradients**2).sum(axis=1), 0.0
    for n, gradient in enumerate(gradients):
        before = mean if n else squares[0]
        np.testing.assert_allclose(found[n], gradient / np.sqrt(before), rtol=1e-4)
        np.testing.assert_allclose(variances[n], 4 / before, rtol=1e-4)
        mean += (squares[n] - mean) / min(n + 1, WINDOWS)


def test_the_unit_of_a_gradient_does_not_matter():
    gradients = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    found, large = (normalized_gradients(factor * gradients)[0] for factor in (1, 2.0**20))
    np.testing.assert_allclose(large, found, rtol=1e-6)


def test_a_window_without_a_gradient_says_nothing_of_the_scale():
    """Zero where nothing counted, not a number where something broke: neither is a norm."""
    one = [3.0, 4.0]
    found, _ = normalized_gradients([[0.0, 0.0], one, [np.nan, 1.0], [0.0, 0.0], one])
    np.testing.assert_allclose(found[0], 0)
    for n in (1, 4):
        np.testing.assert_allclose(found[n], [0.6, 0.8], rtol=1e-6)
    assert np.isnan(found[2, 0])


def test_an_unknown_scale_is_refused():
    with pytest.raises(
        ConfigError, match=r"`config.task_scale`='loss' is unknown; legal ones: \['"
    ):
        check_config(dataclasses.replace(CONFIG, task_scale="loss"))
