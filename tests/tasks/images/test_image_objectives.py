"""Objectives at ignorance, and what varies between tasks."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.images.objectives import brier, classification, mixed
from tasks.images.variation import ACTIVATIONS, DRAWN, activation_of, sample_noisy_variation

BATCH = {"label": jnp.asarray([0, 2, 1])}


def test_a_mixture_is_one_at_ignorance_and_what_it_mixes_at_its_ends():
    ignorant = jnp.zeros((3, 4))
    logits = jax.random.normal(jax.random.key(0), (3, 4))
    for share in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(mixed(ignorant, BATCH, share)[0], 1, rtol=1e-5)
    ends = [mixed(logits, BATCH, share)[0] for share in (0.0, 1.0)]
    expected = [classification(logits, BATCH)[0] / np.log(4), brier(logits, BATCH)[0]]
    np.testing.assert_allclose(ends, expected, rtol=1e-5)
    chance = np.asarray(jax.nn.softmax(logits))
    by_hand = ((chance - np.eye(4)[[0, 2, 1]]) ** 2).sum(axis=1).mean() / 0.75
    np.testing.assert_allclose(ends[1], by_hand, rtol=1e-5)


def test_a_drawn_activation_is_the_one_that_its_number_names():
    x = jnp.linspace(-2, 2, 9)
    for number, activation in enumerate(DRAWN.values()):
        drawn = activation_of({"activation": number}, "varied")
        np.testing.assert_allclose(drawn(x), activation(x), rtol=1e-6, atol=1e-6)
    assert activation_of({}, "sigmoid") is ACTIVATIONS["sigmoid"]
    drawn = jax.vmap(sample_noisy_variation)(jax.random.split(jax.random.key(0), 200))
    assert set(np.asarray(drawn["activation"])) == set(range(len(DRAWN)))
    assert 0 <= drawn["noise"].min() < 0.05
    assert 0.45 < drawn["noise"].max() <= 0.5
