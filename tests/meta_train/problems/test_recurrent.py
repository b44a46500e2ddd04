"""The LSTM against one written with NumPy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problems.recurrent import initial_theta, recurrent
from tests.meta_train.problems.unrolling import episode


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def losses_by_numpy(theta, tokens):
    theta = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}
    units = theta["hidden_weights"].shape[1]
    hidden, cell, losses = np.zeros(units), np.zeros(units), []
    for token, following in pairwise(tokens):
        gates = theta["input_weights"] @ theta["embedding"][token] + theta["input_bias"]
        gates = gates + theta["hidden_weights"] @ hidden + theta["hidden_bias"]
        i, f, g, o = (gates[k * units : (k + 1) * units] for k in range(4))
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        logits = theta["output_weights"] @ hidden + theta["output_bias"]
        losses.append(np.log(np.exp(logits).sum()) - logits[following])
    return losses


def test_the_size_of_the_paper():
    """50 tokens, an embedding of 5, 5 units, two bias vectors a gate: 790 weights."""
    theta = initial_theta(jax.random.key(0))
    assert sum(leaf.size for leaf in theta.values()) == 790


def test_losses_are_those_of_numpy():
    theta = initial_theta(jax.random.key(1), tokens=7, embedding=3, units=4)
    tokens = np.array([0, 3, 3, 6, 1, 2, 0, 5])
    state, losses = episode(recurrent(), theta, 7, {"tokens": jnp.asarray(tokens)})
    np.testing.assert_allclose(losses, losses_by_numpy(theta, tokens), rtol=1e-5)
    assert int(state.position) == 7


def test_initial_weights_are_within_their_bounds():
    theta = initial_theta(jax.random.key(2))
    bounded = np.concatenate([leaf.ravel() for n, leaf in theta.items() if n != "embedding"])
    assert 0.99 * 5**-0.5 < np.abs(bounded).max() <= 5**-0.5
    assert abs(bounded.mean()) < 5 * 5**-0.5 / (3 * bounded.size) ** 0.5
    assert 0.8 < theta["embedding"].std() < 1.2
