"""NT-Xent by loops, its bound, and what a view keeps."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.images.contrastive import BATCH, contrast, view
from tasks.images.families import BATCH_SIZE


def test_the_contrast_is_that_of_loops_over_pairs():
    one, other = np.random.default_rng(0).standard_normal((2, 3, 4))
    both = np.concatenate([one, other])
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    terms = []
    for i in range(6):
        among = sum(np.exp(unit[i] @ unit[j] / 0.4) for j in range(6) if j != i)
        terms.append(-np.log(np.exp(unit[i] @ unit[(i + 3) % 6] / 0.4) / among))
    np.testing.assert_allclose(contrast(one, other, 0.4), np.mean(terms), rtol=1e-4)


def test_the_bound_is_for_embeddings_that_are_all_alike():
    alike = jnp.ones((BATCH, 4))
    np.testing.assert_allclose(contrast(alike, alike, 0.5), np.log(2 * BATCH - 1), rtol=1e-5)
    assert BATCH == BATCH_SIZE


def test_a_view_keeps_a_window_of_three_quarters_of_each_side():
    images = 100.0 * jnp.ones((200, 8, 8, 1))
    kept = np.asarray(view(jax.random.key(1), images)[..., 0] > 50)
    np.testing.assert_array_equal(kept.sum(axis=(1, 2)), 36)
    corners = {(int(k.any(axis=1).argmax()), int(k.any(axis=0).argmax())) for k in kept}
    assert corners == {(row, column) for row in range(3) for column in range(3)}
