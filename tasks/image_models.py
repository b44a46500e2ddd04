"""Small Haiku models of images: forward passes from standardised images to outputs."""

import math
from collections.abc import Callable, Sequence

import haiku as hk
import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def mlp(
    images: jax.Array,
    widths: Sequence[int],
    outputs: int,
    activation: Callable[[jax.Array], jax.Array],
    init_scale: jax.Array | float = 1.0,
) -> jax.Array:
    """Hidden layers of ``widths`` on flattened images; no hidden layer is softmax regression.

    ``init_scale`` multiplies the initial weights of the hidden layers (a traced value will do).
    Shapes: [B, h, w, c] → [B, outputs].
    """
    hidden = images.reshape(images.shape[0], -1)
    for i, width in enumerate(widths):
        stddev = hidden.shape[-1] ** -0.5

        def scaled(shape: Sequence[int], dtype: jnp.dtype, stddev: float = stddev) -> jax.Array:
            return init_scale * hk.initializers.TruncatedNormal(stddev)(shape, dtype)

        hidden = activation(hk.Linear(width, w_init=scaled, name=f"hidden_{i}")(hidden))
    return hk.Linear(outputs, name="logits")(hidden)


def conv_net(images: jax.Array, channels: Sequence[int], outputs: int) -> jax.Array:
    """3×3 convolutions of stride 2 with ReLU, a global mean and a linear layer.

    Shapes: [B, h, w, c] → [B, outputs].
    """
    hidden = images
    for i, width in enumerate(channels):
        hidden = jax.nn.relu(PatchConv2D(width, stride=2, name=f"conv_{i}")(hidden))
    return hk.Linear(outputs, name="logits")(hidden.mean(axis=(1, 2)))


class PatchConv2D(hk.Module):
    """`hk.Conv2D` with a 3×3 kernel and SAME padding, as one product over gathered patches.

    A convolution with its own kernel for every particle is slow in XLA on CPU; this form
    is a batched product (four times as fast there), with the same parameters.
    """

    def __init__(self, output_channels: int, stride: int = 1, name: str | None = None):
        super().__init__(name=name)
        self.output_channels, self.stride = output_channels, stride

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
        init = hk.initializers.TruncatedNormal(1 / math.sqrt(9 * channels))
        kernel = hk.get_parameter("w", shape, init=init)
        bias = hk.get_parameter("b", [self.output_channels], init=jnp.zeros)
        product = jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, self.output_channels)
        return product + bias.reshape(1, 1, 1, -1)

    def _padding(self, size: int, outputs: int) -> tuple[int, int]:
        total = max(0, (outputs - 1) * self.stride + 3 - size)
        return total // 2, total - total // 2
