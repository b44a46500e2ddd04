"""Models of rows of a table: [B, d] → [B, outputs].

Gated residual blocks and feature tokens follow Gorishniy et al. 2021, arXiv:2106.11959.
"""

from collections.abc import Callable, Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.base import Configuration
from tasks.images.perceptrons import layer_norm, mlp
from tasks.images.transformers import attention
from tasks.images.variation import activation_of, init_scale_of
from tasks.readout import readout

HEADS = 2

Model = Callable[[jax.Array, tuple[int, ...], int, str, Configuration], jax.Array]
"""``model(rows, widths, outputs, activation, cfg)``"""


def linear(
    rows: jax.Array, widths: tuple[int, ...], outputs: int, activation: str, cfg: Configuration
) -> jax.Array:
    """One linear layer."""
    del widths, activation, cfg
    return readout(rows, outputs)


def perceptron(
    rows: jax.Array, widths: tuple[int, ...], outputs: int, activation: str, cfg: Configuration
) -> jax.Array:
    """Hidden layers of ``widths``."""
    chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
    init = hk.initializers.TruncatedNormal(0.1 * widths[-1] ** -0.5)
    return mlp(rows, widths, outputs, chosen, scale, last_init=init)


def gated_residual(
    rows: jax.Array, widths: tuple[int, ...], outputs: int, activation: str, cfg: Configuration
) -> jax.Array:
    """A gated block for each of ``widths``: x ← x + W₂ (a(W₁ N(x)) ∘ sigmoid(W₃ N(x)))."""
    chosen = activation_of(cfg, activation)
    hidden = hk.Linear(widths[0])(rows)
    for width in widths:
        normal = layer_norm(hidden)
        gate = jax.nn.sigmoid(hk.Linear(width, name="gate")(normal))
        hidden += hk.Linear(widths[0], name="down")(
            chosen(hk.Linear(width, name="up")(normal)) * gate
        )
    return readout(layer_norm(hidden), outputs)


def feature_transformer(
    rows: jax.Array, widths: tuple[int, ...], outputs: int, activation: str, cfg: Configuration
) -> jax.Array:
    """Each column is a token x_j w_j + b_j; a block of attention for each of ``widths``."""
    chosen, width = activation_of(cfg, activation), widths[0]
    shape, init = [rows.shape[1], width], hk.initializers.TruncatedNormal(width**-0.5)
    direction = hk.get_parameter("direction", shape, init=init)
    offset = hk.get_parameter("offset", shape, init=init)
    tokens = rows[:, :, None] * direction[None] + offset[None]
    for _ in widths:
        tokens += attention(layer_norm(tokens), HEADS)
        wide = hk.Linear(2 * width, name="wide")(layer_norm(tokens))
        tokens += hk.Linear(width, name="narrow")(chosen(wide))
    return readout(jnp.mean(layer_norm(tokens), axis=1), outputs)


MODELS: Mapping[str, Model] = {
    "linear": linear,
    "mlp": perceptron,
    "gatedresidual": gated_residual,
    "featuretransformer": feature_transformer,
}
