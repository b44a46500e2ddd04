"""MLP-Mixers of images (Tolstikhin et al. 2021, arXiv:2105.01601).

X ← X + (W₂ a(W₁ N(X)ᵀ))ᵀ over patches,   X ← X + W₄ a(W₃ N(X)ᵀ) over channels
"""

import math

import haiku as hk
import jax

from tasks.architectures import width_times_depth
from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.objectives import classification
from tasks.images.patches import patch_size, tokens
from tasks.images.perceptrons import layer_norm
from tasks.images.transformers import WIDER, two_layers
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


def mixer(
    images: jax.Array,
    patch: int,
    width: int,
    depth: int,
    outputs: int,
    activation: Activation = jax.nn.gelu,
    init_scale: jax.Array | float = 1.0,
) -> jax.Array:
    """Logits: [B, h, w, c] → [B, outputs]; perceptrons over patches have ``width`` hidden units."""
    hidden = tokens(images, patch, width)
    for i in range(depth):
        with hk.experimental.name_scope(f"block_{i}"):
            across = layer_norm(hidden).swapaxes(1, 2)
            with hk.experimental.name_scope("patches"):
                inner = two_layers(across, width, activation, init_scale)
            hidden = hidden + inner.swapaxes(1, 2)
            with hk.experimental.name_scope("channels"):
                inner = two_layers(layer_norm(hidden), WIDER * width, activation, init_scale)
            hidden = hidden + inner
    return hk.Linear(outputs, name="logits")(layer_norm(hidden).mean(axis=1))


def _mixer(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "gelu")
    patch = patch_size(facts.side, widths)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        images, (width, depth) = noised(batch["image"], cfg), widths[:2]
        logits = mixer(images, patch, width, depth, facts.classes, chosen, scale)
        return classification(logits, batch)

    return ImageModel(
        loss,
        math.log(facts.classes),
        activation,
        sample=sample_noisy_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "mixer": Architecture(
        "MLP-Mixer of a width and depth, and a side of patches (4×4 of them if left out)",
        "16x2", (2, 3), (VARIED, *ACTIVATIONS), _mixer, width_times_depth,
    ),
}  # fmt: skip
