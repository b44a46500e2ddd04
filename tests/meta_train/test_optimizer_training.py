"""Training with a learned optimizer as an unrolled problem: what L_t is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import RULES
from meta_train.problems.optimizer_training import (
    NoAccuracyError,
    meta_data,
    optimizer_training,
)
from tasks import get_family
from tests.meta_train.stubs import SGD, scalar_family

RATE = jnp.asarray(0.25)


def unroll(problem, family, steps, meta_loss="train", theta=RATE):
    data = meta_data(family.load(), meta_loss)
    state, losses = problem.init(jax.random.key(0), theta), []
    for i in range(steps):
        state, loss = problem.step(jax.random.key(i), theta, state, data)
        losses.append(float(loss))
    return state, losses


def test_the_loss_is_that_before_the_update_on_training_data():
    family = scalar_family()
    state, losses = unroll(optimizer_training(family, SGD), family, 3)
    xs = [1.0, 0.75, 0.75**2]  # x ← x − ¼x towards 0, the number of the train split
    np.testing.assert_allclose(losses, [0.5 * x**2 for x in xs], rtol=1e-6)
    assert float(state.params["x"]) == pytest.approx(0.75**3)
    assert int(state.model_state) == 3


def test_a_validation_loss_is_on_the_inner_validation_split_at_the_same_parameters():
    family = scalar_family()
    problem = optimizer_training(family, SGD, meta_loss="validation")
    state, losses = unroll(problem, family, 3, "validation")
    xs = [1.0, 0.75, 0.75**2]  # trained as before; the number of that split is 1
    np.testing.assert_allclose(losses, [0.5 * (x - 1) ** 2 for x in xs], atol=1e-7)
    assert float(state.params["x"]) == pytest.approx(0.75**3)
    assert int(state.model_state) == 3


def test_a_final_loss_is_that_of_the_last_parameters_in_differences():
    family = scalar_family()
    problem = optimizer_training(family, SGD, meta_loss="final_validation")
    _, losses = unroll(problem, family, 3, "final_validation")
    xs = np.asarray([0.75, 0.75**2, 0.75**3])  # after each step; the number of that split is 1
    fixed = 0.5 * (xs - 1) ** 2
    np.testing.assert_allclose(np.cumsum(losses), fixed, atol=1e-7)


def test_a_final_loss_is_measured_on_one_minibatch_for_the_whole_episode():
    """Parameters that do not move have differences of exactly zero after the first."""
    family, rule = get_family("fashion_mnist_8x8_mlp32"), SGD
    problem = optimizer_training(family, rule, meta_loss="final_validation")
    _, losses = unroll(problem, family, 3, "final_validation", theta=jnp.asarray(0.0))
    assert losses[0] > 1
    assert losses[1:] == [0, 0]


def test_an_accuracy_is_a_loss_without_a_gradient():
    family = get_family("fashion_mnist_8x8_mlp32")
    problem = optimizer_training(family, SGD, meta_loss="validation_accuracy")
    _, losses = unroll(problem, family, 30, "validation_accuracy", theta=jnp.asarray(0.3))
    assert all(-1 <= loss <= 0 and abs(64 * loss - round(64 * loss)) < 1e-4 for loss in losses)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
    with pytest.raises(NoAccuracyError, match="the task 'scalar' has no accuracy"):
        unroll(
            optimizer_training(scalar_family(), SGD, meta_loss="validation_accuracy"),
            scalar_family(),
            1,
            "validation_accuracy",
        )


def test_only_the_splits_that_are_read_travel():
    splits = scalar_family().load()
    assert set(meta_data(splits, "train")) == {"train"}
    assert set(meta_data(splits, "validation")) == {"train", "inner_validation"}


def test_theta_changes_the_training_and_the_key_the_batches():
    family, rule = get_family("fashion_mnist_8x8_mlp32"), RULES["mlp"]()
    problem = optimizer_training(family, rule)
    theta = rule.init(jax.random.key(0))
    _, losses = unroll(problem, family, 2, theta=theta)
    _, same = unroll(problem, family, 2, theta=theta)
    other = jax.tree.map(lambda x: x + 0.1, theta)
    _, moved = unroll(problem, family, 2, theta=other)
    assert losses == same
    assert losses[0] == moved[0]
    assert losses[1] != moved[1]
    assert losses[0] != losses[1]


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="`meta_loss`='test'"):
        optimizer_training(scalar_family(), SGD, meta_loss="test")
