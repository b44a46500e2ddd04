"""Gates sum to one and keep what they should; experts by loops."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.images.experts import Experts, gates, imbalance


def test_gates_sum_to_one_and_keep_the_largest_scores():
    scores = jax.random.normal(jax.random.key(0), (9, 5))
    for kept, count in ((None, 5), (2, 2), (1, 1)):
        found = np.asarray(gates(scores, kept))
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
        assert ((found > 0).sum(axis=1) == count).all()
        largest = np.argsort(scores, axis=1)[:, -count:]
        assert (np.take_along_axis(found, largest, axis=1) > 0).all()
    two = np.sort(scores, axis=1)[:, -2:]
    expected = np.exp(two[:, 1]) / np.exp(two).sum(axis=1)
    np.testing.assert_allclose(gates(scores, 2).max(axis=1), expected, rtol=1e-5)


def test_the_imbalance_is_the_squared_coefficient_of_variation():
    weights = np.random.default_rng(0).random((7, 3))
    importance = weights.sum(axis=0)
    expected = (importance.std() / importance.mean()) ** 2
    np.testing.assert_allclose(imbalance(weights), expected, rtol=1e-4)
    assert float(imbalance(jnp.ones((7, 3)))) == 0
    one_expert = jnp.zeros((7, 3)).at[:, 1].set(1.0)
    np.testing.assert_allclose(imbalance(one_expert), 2, rtol=1e-5)  # experts − 1


def test_every_expert_is_a_perceptron_of_its_own():
    inputs = np.asarray(jax.random.normal(jax.random.key(0), (4, 5)))
    network = hk.transform(lambda x: Experts(3, 6, 2, jnp.tanh)(x))
    params = network.init(jax.random.key(1), inputs)
    found = network.apply(params, None, inputs)
    layer = {name: np.asarray(value) for name, value in params["experts"].items()}
    for e in range(3):
        hidden = np.tanh(inputs @ layer["hidden_w"][e] + layer["hidden_b"][e])
        expected = hidden @ layer["logits_w"][e] + layer["logits_b"][e]
        np.testing.assert_allclose(found[:, e], expected, rtol=1e-4, atol=1e-5)
