"""Generators trained by the maximum mean discrepancy to the minibatch.

    MMD²(X, Y) = E k(x, x′) + E k(y, y′) − 2 E k(x, y),   x ≠ x′, y ≠ y′

without bias (Gretton et al. 2012, eq. 3; Li et al. 2015, arXiv:1502.02761), for the mean of
Gaussian kernels of some widths on the squared distance per pixel. The best critic of the kernel's
space is known in closed form, so that the game of a GAN becomes one minimisation.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.architectures import all_but_the_first
from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.perceptrons import mlp
from tasks.images.variation import (
    ACTIVATIONS,
    VARIED,
    activation_name,
    activation_of,
    init_scale_of,
    nothing,
    sample_variation,
)

VARIANCES = (0.25, 1.0, 4.0)


def kernel(one: jax.Array, other: jax.Array) -> jax.Array:
    """The mean of exp(−|x − y|² / 2Dσ²) over `VARIANCES`: [n, D], [m, D] → [n, m]."""
    squares = jnp.sum(jnp.square(one), axis=1)[:, None] + jnp.sum(jnp.square(other), axis=1)[None]
    distance = (squares - 2 * one @ other.T) / one.shape[1]
    return jnp.mean(jnp.stack([jnp.exp(-distance / (2 * v)) for v in VARIANCES]), axis=0)


def discrepancy(one: jax.Array, other: jax.Array) -> jax.Array:
    """The estimate on top of this file, a scalar: [n, D], [m, D]; below two rows, with x = x′."""
    return within(one) + within(other) - 2 * jnp.mean(kernel(one, other))


def within(rows: jax.Array) -> jax.Array:
    """The mean kernel of two different rows; of one row alone, 1."""
    count = rows.shape[0]
    others = 1 - jnp.eye(count, dtype=rows.dtype) if count > 1 else jnp.ones((1, 1), rows.dtype)
    return jnp.sum(others * kernel(rows, rows)) / jnp.sum(others)


def initial_discrepancy() -> float:
    """Of zero to images whose squares per pixel are 1, and squared distances 2."""
    between = [np.mean(np.exp(-d / (2 * np.array(VARIANCES)))) for d in (1.0, 2.0)]
    return float(between[1] + 1 - 2 * between[0])


def _mmd(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "relu")
    noise, *hidden = widths
    outputs = facts.side**2 * facts.channels

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        images = batch["image"].reshape(batch["image"].shape[0], outputs)
        shape = (images.shape[0], noise)
        seeds = jax.random.normal(hk.next_rng_key(), shape, images.dtype)
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        return discrepancy(mlp(seeds, hidden, outputs, chosen, scale), images), {}

    return ImageModel(
        loss,
        initial_discrepancy(),
        activation,
        domain="adversarial/generative matching",
        sample=sample_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "mmd": Architecture(
        "generator by maximum mean discrepancy: the dimension of its noise, hidden widths",
        "8x32", (2, None), (VARIED, *ACTIVATIONS), _mmd, all_but_the_first,
    ),
}  # fmt: skip
