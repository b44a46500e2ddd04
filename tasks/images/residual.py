"""Residual networks of images with pre-activation (He et al. 2016, arXiv:1603.05027).

    x ← x + W₂ a(N(W₁ a(N(x))))

N normalises by the statistics of the minibatch, or over channels. W₂ starts at zero, so that a
block starts as the identity (Goyal et al. 2017).
"""

import math
from collections.abc import Callable, Sequence

import haiku as hk
import jax

from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.convolutions import PatchConv2D
from tasks.images.objectives import classification
from tasks.images.patches import patches
from tasks.images.perceptrons import batch_norm, layer_norm
from tasks.images.variation import (
    ACTIVATIONS,
    VARIED,
    Activation,
    activation_name,
    activation_of,
    init_scale_of,
    noised,
    nothing,
    sample_noisy_variation,
)

LARGEST_MAP = 8  # the stem makes no more squares of a row
Norm = Callable[[jax.Array], jax.Array]


def block(
    inputs: jax.Array,
    channels: int,
    stride: int,
    activation: Activation,
    norm: Norm,
    init_scale: jax.Array | float = 1.0,
) -> jax.Array:
    """One residual block; a 1×1 convolution is the way around where the shape changes.

    Shapes: [B, h, w, c] → [B, ⌈h/stride⌉, ⌈w/stride⌉, channels].
    """
    active = activation(norm(inputs))
    around = inputs
    if stride > 1 or channels != inputs.shape[-1]:
        around = hk.Linear(channels, with_bias=False, name="around")(active[:, ::stride, ::stride])
    inner = PatchConv2D(channels, stride, init_scale, name="first")(active)
    return around + PatchConv2D(channels, init_scale=0.0, name="second")(activation(norm(inner)))


def residual_net(
    images: jax.Array,
    channels: Sequence[int],
    outputs: int,
    activation: Activation = jax.nn.relu,
    norm: Norm = batch_norm,
    init_scale: jax.Array | float = 1.0,
) -> jax.Array:
    """A stem of squares, a block for each of ``channels``, a global mean, a linear layer.

    Blocks after the first halve the map. Shapes: [B, h, w, c] → [B, outputs].
    """
    size = -(-images.shape[1] // LARGEST_MAP)
    hidden = hk.Linear(channels[0], name="stem")(patches(images, size))
    for i, width in enumerate(channels):
        with hk.experimental.name_scope(f"block_{i}"):
            hidden = block(hidden, width, 2 if i else 1, activation, norm, init_scale)
    return hk.Linear(outputs, name="logits")(activation(norm(hidden)).mean(axis=(1, 2)))


def _resnet(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "relu")
    norm = layer_norm if option == "layernorm" else batch_norm

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        images = noised(batch["image"], cfg)
        logits = residual_net(images, widths, facts.classes, chosen, norm, scale)
        return classification(logits, batch)

    return ImageModel(
        loss,
        math.log(facts.classes),
        activation,
        sample=sample_noisy_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "resnet": Architecture(
        "channels of residual blocks, halved maps from the second on", "8x16", (1, None),
        (VARIED, *ACTIVATIONS, "layernorm"), _resnet,
    ),
}  # fmt: skip
