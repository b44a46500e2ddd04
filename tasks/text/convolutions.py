"""Causal dilated convolutions: van den Oord et al. (WaveNet), https://arxiv.org/abs/1609.03499.

x_t ← φ(W [x_{t−s}, x_t] + b),    s = 1, 2, 4, … from layer to layer
"""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import Architecture
from tasks.images.variation import ACTIVATIONS
from tasks.text.architectures import SequenceModel


def causal_convolutions(
    inputs: jax.Array, widths: tuple[int, ...], activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Layer i reads each place and the one 2ⁱ before it, zeros before the first.

    Shapes: [B, L, d] → [B, L, widths[-1]].
    """
    x = inputs
    for i, width in enumerate(widths):
        before = jnp.pad(x, ((0, 0), (2**i, 0), (0, 0)))[:, : x.shape[1]]
        x = activation(hk.Linear(width, name=f"conv_{i}")(jnp.concatenate([before, x], axis=-1)))
    return x


def _make(widths: tuple[int, ...], option: str) -> SequenceModel:
    activation = option or "relu"

    def apply(inputs: jax.Array) -> jax.Array:
        return causal_convolutions(inputs, widths, ACTIVATIONS[activation])

    return SequenceModel(apply, widths[-1], activation)


ARCHITECTURES = {
    "conv": Architecture(
        "channels of causal convolutions of dilations 1, 2, 4, …", "32x32", (1, None),
        tuple(ACTIVATIONS), _make,
    ),
}  # fmt: skip
