"""Vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929), with normalisation first.

    x ← x + Attention(N(x)),   x ← x + W₂ a(W₁ N(x))

of the patches of an image; a class is told from the mean of the last x.
"""

import math

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import width_times_depth
from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.objectives import classification
from tasks.images.patches import patch_size, tokens
from tasks.images.perceptrons import layer_norm
from tasks.images.variation import (
    ACTIVATIONS,
    VARIED,
    Activation,
    activation_name,
    activation_of,
    init_scale_of,
    nothing,
    sample_variation,
    scaled,
)

HEADS, WIDER = 4, 2
POSITION = 0.02  # standard deviation of the initial embedding of positions


def attention(inputs: jax.Array, heads: int, init_scale: jax.Array | float = 1.0) -> jax.Array:
    """softmax(Q Kᵀ / √d) V of every head, through one linear layer: [B, n, d·heads] → the same."""
    count, length, width = inputs.shape
    w_init = scaled(init_scale, width)
    mixed = hk.Linear(3 * width, w_init=w_init, name="queries_keys_values")(inputs)
    queries, keys, values = jnp.split(mixed.reshape(count, length, heads, -1), 3, axis=-1)
    similar = jnp.einsum("bihd,bjhd->bhij", queries, keys) / math.sqrt(width // heads)
    read = jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(similar), values)
    return hk.Linear(width, name="read")(read.reshape(count, length, width))


def two_layers(
    inputs: jax.Array, hidden: int, activation: Activation, init_scale: jax.Array | float = 1.0
) -> jax.Array:
    """A perceptron over the last axis, which it keeps."""
    width = inputs.shape[-1]
    wide = hk.Linear(hidden, w_init=scaled(init_scale, width), name="wide")(inputs)
    return hk.Linear(width, name="narrow")(activation(wide))


def transformer(
    images: jax.Array,
    patch: int,
    width: int,
    depth: int,
    outputs: int,
    activation: Activation = jax.nn.gelu,
    init_scale: jax.Array | float = 1.0,
) -> jax.Array:
    """Logits: [B, h, w, c] → [B, outputs]; as many of `HEADS` heads as ``width`` can share."""
    hidden = tokens(images, patch, width)
    place = hk.initializers.TruncatedNormal(POSITION)
    positions = hk.get_parameter("positions", hidden.shape[1:], hidden.dtype, place)
    hidden = hidden + positions[None]
    for i in range(depth):
        with hk.experimental.name_scope(f"block_{i}"):
            hidden = hidden + attention(layer_norm(hidden), math.gcd(width, HEADS), init_scale)
            inner = two_layers(layer_norm(hidden), WIDER * width, activation, init_scale)
            hidden = hidden + inner
    return hk.Linear(outputs, name="logits")(layer_norm(hidden).mean(axis=1))


def _vit(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "gelu")
    patch = patch_size(facts.side, widths)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        width, depth = widths[:2]
        logits = transformer(batch["image"], patch, width, depth, facts.classes, chosen, scale)
        return classification(logits, batch)

    return ImageModel(
        loss,
        math.log(facts.classes),
        activation,
        sample=sample_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "vit": Architecture(
        "vision transformer of a width and depth, and a side of patches (4×4 of them if left out)",
        "16x2", (2, 3), (VARIED, *ACTIVATIONS), _vit, width_times_depth,
    ),
}  # fmt: skip
