"""Residual blocks start as the identity; batch statistics by NumPy; pooling by slices."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.images.convolutional_autoencoders import doubled, reconstruct
from tasks.images.convolutions import largest_of_four
from tasks.images.perceptrons import batch_norm, layer_norm
from tasks.images.residual import block


def test_a_block_starts_as_the_identity_or_as_its_way_around():
    images = jax.random.normal(jax.random.key(0), (3, 4, 4, 5))
    network = hk.transform(lambda x: block(x, 5, 1, jax.nn.relu, layer_norm))
    params = network.init(jax.random.key(1), images)
    np.testing.assert_array_equal(network.apply(params, None, images), images)
    params["second"]["w"] = jnp.ones_like(params["second"]["w"])
    assert not np.allclose(network.apply(params, None, images), images)

    smaller = hk.transform(lambda x: block(x, 2, 2, jnp.tanh, lambda x: x))
    params = smaller.init(jax.random.key(1), images)
    expected = np.tanh(images[:, ::2, ::2]) @ params["around"]["w"]
    np.testing.assert_allclose(smaller.apply(params, None, images), expected, atol=1e-5)


def test_batch_normalisation_is_by_the_mean_and_variance_of_the_minibatch():
    hidden = 3 + 2 * np.asarray(jax.random.normal(jax.random.key(0), (6, 4, 4, 5)))
    network = hk.transform_with_state(batch_norm)
    params, state = network.init(jax.random.key(1), hidden)
    found, _ = network.apply(params, state, None, hidden)
    rows = hidden.reshape(-1, 5)
    expected = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5)
    np.testing.assert_allclose(found.reshape(-1, 5), expected, atol=1e-4)


def test_the_largest_of_four_pixels():
    images = np.asarray(jax.random.normal(jax.random.key(0), (2, 5, 4, 3)))
    found = largest_of_four(images)
    assert found.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(found[:, 1, 1], images[:, 2:4, 2:4].max(axis=(1, 2)))
    np.testing.assert_array_equal(found[:, 2, 0], images[:, 4:, :2].max(axis=(1, 2)))


def test_a_convolutional_autoencoder_returns_to_odd_sides():
    images = jax.random.normal(jax.random.key(0), (2, 7, 5, 2))
    network = hk.transform(lambda x: reconstruct(x, (3, 4), jax.nn.relu))
    params = network.init(jax.random.key(1), images)
    assert network.apply(params, None, images).shape == images.shape
    assert params["down_1"]["w"].shape == (3, 3, 3, 4)
    np.testing.assert_array_equal(doubled(images)[:, 4:6, 2:4], np.tile(images[:, 2:3, 1:2],
                                                                        (1, 2, 2, 1)))  # fmt: skip
