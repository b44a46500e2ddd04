"""Embeddings of images by contrast (SimCLR; Chen et al. 2020, arXiv:2002.05709), NT-Xent.

    L = −mean over i of log ( e^{s(i, i′)/τ} / Σ_{j ≠ i} e^{s(i, j)/τ} )

for 2B views, i and i′ of one image and s the cosine. Where all cosines are alike L is log(2B − 1).
A view is a random window of the image, zero (the mean) around it, with noise.
"""

import math

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.perceptrons import mlp
from tasks.images.variation import (
    ACTIVATIONS,
    VARIED,
    activation_name,
    activation_of,
    init_scale_of,
    log_uniform,
    nothing,
    sample_variation,
)

BATCH = 64  # of `tasks.images.families`, which the bound is for
TEMPERATURE, TEMPERATURES = 0.5, (0.3, 1.0)  # of a varied family: log-uniform
NOISE = 0.3
KEPT = 0.75  # of each side of the image, in its window
SMALLEST_SQUARE = 1e-6  # of an embedding, for none has a direction at zero


def view(key: jax.Array, images: jax.Array) -> jax.Array:
    """A window of each image at a place of its own, and noise: [B, h, w, c] → the same."""
    key_rows, key_columns, key_noise = jax.random.split(key, 3)
    rows = _window(key_rows, images.shape[0], images.shape[1])[:, :, None, None]
    columns = _window(key_columns, images.shape[0], images.shape[2])[:, None, :, None]
    noise = NOISE * jax.random.normal(key_noise, images.shape, images.dtype)
    return jnp.where(rows & columns, images, 0) + noise


def _window(key: jax.Array, count: int, size: int) -> jax.Array:
    kept = math.ceil(KEPT * size)
    first = jax.random.randint(key, (count, 1), 0, size - kept + 1)
    places = jnp.arange(size)[None]
    return (places >= first) & (places < first + kept)


def contrast(one: jax.Array, other: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """L on top of this file, of the embeddings of two views, row by row: [B, d] twice → []."""
    both = jnp.concatenate([one, other])
    norms = jnp.sqrt(jnp.sum(jnp.square(both), axis=1, keepdims=True) + SMALLEST_SQUARE)
    unit = both / norms
    similar = unit @ unit.T / temperature
    itself = jnp.eye(both.shape[0], dtype=bool)
    among = jax.nn.logsumexp(jnp.where(itself, -jnp.inf, similar), axis=1)
    pairs = jnp.sum(unit[: one.shape[0]] * unit[one.shape[0] :], axis=1) / temperature
    return jnp.mean(among) - jnp.mean(pairs)


def _contrastive(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    del facts  # labels are not looked at
    activation = activation_name(option, "relu")

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        views = [view(hk.next_rng_key(), batch["image"]) for _ in range(2)]
        *hidden, outputs = widths
        embedded = mlp(jnp.concatenate(views), hidden, outputs, chosen, scale)
        one, other = jnp.split(embedded, 2)
        return contrast(one, other, cfg.get("temperature", TEMPERATURE)), {}

    return ImageModel(
        loss,
        math.log(2 * BATCH - 1),
        activation,
        domain="representation learning",
        sample=_sample_temperature if option == VARIED else nothing,
    )


def _sample_temperature(key: jax.Array) -> Configuration:
    key_variation, key_temperature = jax.random.split(key)
    temperature = log_uniform(key_temperature, TEMPERATURES)
    return sample_variation(key_variation) | {"temperature": temperature}


ARCHITECTURES = {
    "contrastive": Architecture(
        "two views of an image by contrast: hidden widths, and that of the embedding",
        "64x16", (2, None), (VARIED, *ACTIVATIONS), _contrastive,
    ),
}  # fmt: skip
