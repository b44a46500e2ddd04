"""Decoders with causal attention; every block normalises what it reads (pre-norm).

    x ← x + Attention(norm(x));    x ← x + W₂ φ(W₁ norm(x))

Vaswani et al., https://arxiv.org/abs/1706.03762; Xiong et al., https://arxiv.org/abs/2002.04745.
"""

import math
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import Architecture, width_times_depth
from tasks.images.perceptrons import layer_norm
from tasks.images.variation import ACTIVATIONS
from tasks.text.architectures import SequenceModel

HEAD = 16  # units of a head; a width that is no multiple has one head
EXPANSION = 4  # hidden units of the perceptron of a block, in widths
POSITION_SCALE = 0.1


def transformer(
    inputs: jax.Array, width: int, layers: int, activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Blocks of causal attention and a perceptron, on inputs with learned positions.

    Shapes: [B, L, d] → [B, L, width].
    """
    length = inputs.shape[1]
    init = hk.initializers.TruncatedNormal(POSITION_SCALE)
    positions = hk.get_parameter("positions", [length, width], inputs.dtype, init=init)
    x = hk.Linear(width, name="read")(inputs) + positions[None]
    for i in range(layers):
        with hk.experimental.name_scope(f"block_{i}"):
            x = x + causal_attention(layer_norm(x))
            hidden = activation(hk.Linear(EXPANSION * width, name="expand")(layer_norm(x)))
            x = x + hk.Linear(width, name="contract")(hidden)
    return layer_norm(x)


def causal_attention(x: jax.Array) -> jax.Array:
    """Self-attention, of each place to itself and what is before it. Shapes: [B, L, w] → same."""
    batch, length, width = x.shape
    heads = 1 if width % HEAD else width // HEAD
    joined = hk.Linear(3 * width, name="query_key_value")(x)
    query, key, value = jnp.moveaxis(joined.reshape(batch, length, 3, heads, -1), 2, 0)
    scores = jnp.einsum("bihd,bjhd->bhij", query, key) / math.sqrt(width // heads)
    seen = jnp.tril(jnp.ones((length, length), bool))
    scores = jnp.where(seen[None, None], scores, jnp.finfo(scores.dtype).min)
    mixed = jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores), value)
    return hk.Linear(width, name="output")(mixed.reshape(batch, length, width))


def _make(widths: tuple[int, ...], option: str) -> SequenceModel:
    width, layers = widths
    activation = option or "gelu"

    def apply(inputs: jax.Array) -> jax.Array:
        return transformer(inputs, width, layers, ACTIVATIONS[activation])

    return SequenceModel(apply, width, activation)


ARCHITECTURES = {
    "transformer": Architecture(
        "width and number of blocks; the activation of their perceptrons", "32x2", (2, 2),
        tuple(ACTIVATIONS), _make, width_times_depth,
    ),
}  # fmt: skip
