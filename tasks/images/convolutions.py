"""Convolutional classifiers of images."""

import math
from collections.abc import Callable, Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.objectives import classification, mixed
from tasks.images.perceptrons import BETWEEN, as_it_is
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


def conv_net(
    images: jax.Array,
    channels: Sequence[int],
    outputs: int,
    activation: Activation = jax.nn.relu,
    init_scale: jax.Array | float = 1.0,
    between: Callable[[jax.Array], jax.Array] = as_it_is,
    pooling: bool = False,
) -> jax.Array:
    """3×3 convolutions that halve the image, a global mean and a linear layer.

    They halve it by a stride of 2, or by the largest of 2×2 pixels where ``pooling``;
    ``between`` comes between a convolution and its activation.
    Shapes: [B, h, w, c] → [B, outputs].
    """
    hidden = images
    for i, width in enumerate(channels):
        stride = 1 if pooling else 2
        hidden = PatchConv2D(width, stride, init_scale, name=f"conv_{i}")(hidden)
        hidden = activation(between(hidden))
        hidden = largest_of_four(hidden) if pooling else hidden
    return hk.Linear(outputs, name="logits")(hidden.mean(axis=(1, 2)))


def largest_of_four(images: jax.Array) -> jax.Array:
    """Of 2×2 pixels, which the last row and column fill up: [B, h, w, c] → [B, ⌈h/2⌉, ⌈w/2⌉, c]."""
    count, height, width, channels = images.shape
    padded = jnp.pad(images, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    return padded.reshape(count, -(-height // 2), 2, -(-width // 2), 2, channels).max(axis=(2, 4))


class PatchConv2D(hk.Module):
    """`hk.Conv2D` with a 3×3 kernel and SAME padding, as one product over gathered patches.

    A convolution with its own kernel for every particle is slow in XLA on CPU; this form
    is a batched product (four times as fast there), with the same parameters.
    """

    def __init__(
        self,
        output_channels: int,
        stride: int = 1,
        init_scale: jax.Array | float = 1.0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.output_channels, self.stride, self.init_scale = output_channels, stride, init_scale

    def __call__(self, images: jax.Array) -> jax.Array:
        """Shapes: [B, h, w, c] → [B, ⌈h/stride⌉, ⌈w/stride⌉, output_channels]."""
        _, height, width, channels = images.shape
        rows, columns = -(-height // self.stride), -(-width // self.stride)
        padding = [(0, 0), self._padding(height, rows), self._padding(width, columns), (0, 0)]
        padded = jnp.pad(images, padding)
        patches = [
            padded[:, i : i + self.stride * (rows - 1) + 1 : self.stride,
                   j : j + self.stride * (columns - 1) + 1 : self.stride]
            for i in range(3)
            for j in range(3)
        ]  # fmt: skip
        shape = [3, 3, channels, self.output_channels]
        init = scaled(self.init_scale, 9 * channels)
        kernel = hk.get_parameter("w", shape, init=init)
        bias = hk.get_parameter("b", [self.output_channels], init=jnp.zeros)
        product = jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, self.output_channels)
        return product + bias.reshape(1, 1, 1, -1)

    def _padding(self, size: int, outputs: int) -> tuple[int, int]:
        total = max(0, (outputs - 1) * self.stride + 3 - size)
        return total // 2, total - total // 2


def _conv(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "relu")
    between = BETWEEN.get(option, as_it_is)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        pooling = option == "pooling"
        logits = conv_net(batch["image"], widths, facts.classes, chosen, scale, between, pooling)
        return (
            mixed(logits, batch, cfg["mix"]) if option == VARIED else classification(logits, batch)
        )

    return ImageModel(
        loss,
        1.0 if option == VARIED else math.log(facts.classes),
        activation,
        sample=_sample_mixed if option == VARIED else nothing,
    )


def _sample_mixed(key: jax.Array) -> Configuration:
    key_variation, key_mix = jax.random.split(key)
    return sample_variation(key_variation) | {"mix": jax.random.uniform(key_mix, ())}


ARCHITECTURES = {
    "conv": Architecture(
        "channels of 3×3 convolutions that halve the image", "16x32", (1, None),
        (VARIED, *ACTIVATIONS, *BETWEEN, "pooling"), _conv,
    ),
}  # fmt: skip
