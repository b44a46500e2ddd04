"""Convolutional autoencoders of images: strides down, nearest neighbours and convolutions up."""

from collections.abc import Sequence

import jax

from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.convolutions import PatchConv2D
from tasks.images.objectives import reconstruction
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


def reconstruct(
    images: jax.Array,
    channels: Sequence[int],
    activation: Activation,
    init_scale: jax.Array | float = 1.0,
) -> jax.Array:
    """3×3 convolutions of stride 2 to the last of ``channels``, and the same way back.

    Shapes: [B, h, w, c] → [B, h, w, c].
    """
    hidden, shapes = images, []
    for i, width in enumerate(channels):
        shapes.append(hidden.shape)
        hidden = activation(PatchConv2D(width, 2, init_scale, name=f"down_{i}")(hidden))
    for i, (_, height, width, outputs) in reversed(list(enumerate(shapes))):
        wide = doubled(hidden)[:, :height, :width]
        scale = init_scale if i else 1.0
        convolved = PatchConv2D(outputs, init_scale=scale, name=f"up_{i}")(wide)
        hidden = activation(convolved) if i else convolved
    return hidden


def doubled(images: jax.Array) -> jax.Array:
    """Every pixel as a square of four: [B, h, w, c] → [B, 2h, 2w, c]."""
    return images.repeat(2, axis=1).repeat(2, axis=2)


def _autoencoder(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    del facts  # the images say all
    activation = activation_name(option, "relu")

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        return reconstruction(
            reconstruct(noised(batch["image"], cfg), widths, chosen, scale), batch
        )

    return ImageModel(
        loss,
        1.0,
        activation,
        domain="image reconstruction",
        sample=sample_noisy_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "convautoencoder": Architecture(
        "channels of 3×3 convolutions of stride 2, and back up", "16x8", (1, None),
        (VARIED, *ACTIVATIONS), _autoencoder,
    ),
}  # fmt: skip
