"""Variational autoencoders (Kingma & Welling 2014, arXiv:1312.6114), the negative ELBO per pixel.

    L = (E_q[−log p(x|z)] + KL(q(z|x) ‖ N(0, 1))) / D,   q = N(μ(x), σ²(x)),   z = μ + σ ε
    KL = ½ Σ (μ² + σ² − 1 − log σ²)

p is a Gaussian of variance 1 (less the constant ½ log 2π), or, of pixels that are above the
mean of the set or not, Bernoulli. At the start the decoder says zero, and q is near the prior:
L is ½ on standardised images, or log 2.
"""

import math
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.perceptrons import mlp
from tasks.images.variation import (
    ACTIVATIONS,
    NEAR_ZERO,
    VARIED,
    activation_name,
    activation_of,
    init_scale_of,
    log_uniform,
    nothing,
    sample_variation,
)

KL_WEIGHTS = (0.1, 2.0)  # of a varied family: log-uniform (Higgins et al. 2017)


def divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(mean, e^log_variance) ‖ N(0, 1)) in nats: [B, n] twice → [B]."""
    terms = jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance
    return 0.5 * jnp.sum(terms, axis=1)


def gaussian(output: jax.Array, pixels: jax.Array) -> jax.Array:
    """−log N(pixels; output, 1) − ½ log 2π, summed: [B, D] twice → [B]."""
    return 0.5 * jnp.sum(jnp.square(output - pixels), axis=1)


def bernoulli(output: jax.Array, pixels: jax.Array) -> jax.Array:
    """−log p of whether pixels are above 0, ``output`` being logits: [B, D] twice → [B]."""
    return jnp.sum(jax.nn.softplus(jnp.where(pixels > 0, -output, output)), axis=1)


def elbo(
    pixels: jax.Array,
    encode: Callable[[jax.Array], jax.Array],
    decode: Callable[[jax.Array], jax.Array],
    likelihood: Callable[[jax.Array, jax.Array], jax.Array],
    weight: jax.Array | float,
) -> tuple[jax.Array, Metrics]:
    """The loss on top of this file, the KL term times ``weight``; ``pixels`` are [B, D]."""
    mean, log_variance = jnp.split(encode(pixels), 2, axis=1)
    noise = jax.random.normal(hk.next_rng_key(), mean.shape, mean.dtype)
    output = decode(mean + jnp.exp(0.5 * log_variance) * noise)
    kl = jnp.mean(divergence(mean, log_variance)) / pixels.shape[1]
    return jnp.mean(likelihood(output, pixels)) / pixels.shape[1] + weight * kl, {"kl": kl}


def _vae(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "tanh")
    likelihood = bernoulli if option == "bernoulli" else gaussian
    *hidden, latent = widths

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        pixels = batch["image"].reshape(batch["image"].shape[0], -1)

        def encode(x: jax.Array) -> jax.Array:
            with hk.experimental.name_scope("encoder"):
                return mlp(x, hidden, 2 * latent, chosen, scale, last_init=NEAR_ZERO)

        def decode(z: jax.Array) -> jax.Array:
            with hk.experimental.name_scope("decoder"):
                return mlp(z, hidden[::-1], pixels.shape[1], chosen, scale, last_init=NEAR_ZERO)

        return elbo(pixels, encode, decode, likelihood, cfg.get("kl_weight", 1.0))

    return ImageModel(
        loss,
        math.log(2) if option == "bernoulli" else 0.5,
        activation,
        domain="generative modelling",
        sample=_sample_weighted if option == VARIED else nothing,
    )


def _sample_weighted(key: jax.Array) -> Configuration:
    key_variation, key_weight = jax.random.split(key)
    return sample_variation(key_variation) | {"kl_weight": log_uniform(key_weight, KL_WEIGHTS)}


ARCHITECTURES = {
    "vae": Architecture(
        "variational autoencoder: hidden widths of the encoder, and the dimension of z",
        "64x8", (2, None), (VARIED, *ACTIVATIONS, "bernoulli"), _vae,
    ),
}  # fmt: skip
