"""Augmentations of the images of training minibatches, drawn anew for every one.

flip    x_b[i, j] → x_b[i, w − 1 − j] for every second image b, on average
crop    x_b[i, j] → x_b[r(i + u_b), r(j + v_b)], u, v uniform on −P … P, r mirrors at the edges
noise   x → x + STD ε, ε ~ N(0, 1) for every value, in units of the standardised pixels

Crops are gathers by indices: no larger image is made. Scoring and validation see no distortion.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from tasks.augmentations.base import AugmentationError, own_key
from tasks.base import Batch, TaskFamily

Distortion = Callable[[jax.Array, Batch], Batch]


def distorted(family: TaskFamily, distortion: Distortion) -> TaskFamily:
    """The family with ``distortion(key, batch) -> batch`` after those that it has.

    The batch is known to have an image when the distortion is called.
    """

    def distort(key: jax.Array, batch: Batch) -> Batch:
        if family.distort is not None:
            batch = family.distort(key, batch)
        if not isinstance(batch, dict) or "image" not in batch:
            raise AugmentationError(
                f"the minibatches of the task {family.name!r} have no image; leave out what "
                "distorts them"
            )
        return distortion(own_key(family, key), batch)

    return family._replace(distort=distort)


def of_images(change: Callable[[jax.Array, jax.Array], jax.Array]) -> Distortion:
    """The distortion of the images [B, h, w, c] alone."""
    return lambda key, batch: {**batch, "image": change(key, batch["image"])}


def flip(family: TaskFamily) -> TaskFamily:
    """Each image is mirrored, left to right, with probability ½."""
    return distorted(family, of_images(_flipped))


def _flipped(key: jax.Array, image: jax.Array) -> jax.Array:
    mirrored = jax.random.bernoulli(key, shape=(image.shape[0], 1, 1, 1))
    return jnp.where(mirrored, image[:, :, ::-1], image)


def crop(family: TaskFamily, pixels: int) -> TaskFamily:
    """Each image is moved by up to ``pixels`` either way, and mirrored beyond its edges."""
    return distorted(family, of_images(partial(_cropped, family.name, pixels)))


def _cropped(name: str, pixels: int, key: jax.Array, image: jax.Array) -> jax.Array:
    count, height, width, _ = image.shape
    if pixels >= min(height, width):
        raise AugmentationError(
            f"P={pixels} does not leave a pixel of the images of the task {name!r}, "
            f"{height}×{width}; it must be below {min(height, width)}"
        )
    moved = jax.random.randint(key, (2, count, 1), -pixels, pixels + 1)
    rows = _mirrored(jnp.arange(height)[None] + moved[0], height)
    columns = _mirrored(jnp.arange(width)[None] + moved[1], width)
    return image[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _mirrored(place: jax.Array, size: int) -> jax.Array:
    """Places within −size < place < 2 size − 1, mirrored at 0 and at size − 1."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(place))


def noise(family: TaskFamily, deviation: float) -> TaskFamily:
    """Gaussian noise of this standard deviation on every value."""
    return distorted(family, of_images(partial(_noisy, deviation)))


def _noisy(deviation: float, key: jax.Array, image: jax.Array) -> jax.Array:
    return image + deviation * jax.random.normal(key, image.shape, image.dtype)
