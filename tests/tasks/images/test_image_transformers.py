"""One layer of attention and one of a mixer, by NumPy; patches by slices."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.images.mixers import mixer
from tasks.images.patches import patch_size, patches
from tasks.images.transformers import attention, transformer


def test_attention_of_each_head_is_a_softmax_of_scaled_products():
    inputs = np.asarray(jax.random.normal(jax.random.key(0), (2, 5, 6)))
    network = hk.without_apply_rng(hk.transform(lambda x: attention(x, heads=2)))
    params = network.init(jax.random.key(1), inputs)
    found = network.apply(params, inputs)

    weights = {name: np.asarray(layer["w"]) for name, layer in params.items()}
    joint = (inputs @ weights["queries_keys_values"]).reshape(2, 5, 2, 9)
    read = np.zeros((2, 5, 2, 3))
    for b in range(2):
        for head in range(2):
            query, key, value = joint[b, :, head].reshape(5, 3, 3).transpose(1, 0, 2)
            similar = np.exp(query @ key.T / np.sqrt(3))
            read[b, :, head] = similar / similar.sum(axis=1, keepdims=True) @ value
    expected = read.reshape(2, 5, 6) @ weights["read"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_patches_are_squares_of_the_image_in_reading_order():
    images = jnp.arange(2 * 5 * 5 * 3.0).reshape(2, 5, 5, 3)
    found = patches(images, 2)
    assert found.shape == (2, 3, 3, 12)
    np.testing.assert_array_equal(found[1, 0, 1], images[1, :2, 2:4].ravel())
    assert (found[:, 2, 2].reshape(2, 2, 2, 3)[:, 1] == 0).all()  # below the image
    assert [patch_size(side, (16, 2)) for side in (8, 14, 28)] == [2, 4, 7]
    assert patch_size(8, (16, 2, 4)) == 4


def test_a_transformer_knows_the_places_of_patches_and_a_mixer_too():
    images = jax.random.normal(jax.random.key(2), (2, 4, 4, 1))
    swapped = jnp.concatenate([images[:, 2:], images[:, :2]], axis=1)
    for model in (transformer, mixer):
        network = hk.without_apply_rng(hk.transform(lambda x, model=model: model(x, 2, 4, 1, 3)))
        params = network.init(jax.random.key(3), images)
        assert network.apply(params, images).shape == (2, 3)
        assert not np.allclose(network.apply(params, images), network.apply(params, swapped))
        if model is transformer:  # without positions it is a function of the set of patches
            params["~"]["positions"] = jnp.zeros_like(params["~"]["positions"])
            same = [network.apply(params, each) for each in (images, swapped)]
            np.testing.assert_allclose(*same, atol=1e-5)
