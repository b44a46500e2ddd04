"""Mixtures of experts on flattened images (Shazeer et al. 2017, arXiv:1701.06538).

    logits(x) = Σ_e g_e(x) E_e(x),   L = cross-entropy + w · CV²(Σ_x g(x))

E_e is a perceptron of one hidden layer; g is a softmax of a linear map of x, of all experts or
of the `KEPT` largest; CV² is the squared coefficient of variation of the experts' importance.
"""

import math

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import all_but_the_first
from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.objectives import classification
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

KEPT = 2
BALANCE = 0.01  # w


def gates(scores: jax.Array, kept: int | None) -> jax.Array:
    """Softmax over the last axis, of the ``kept`` largest scores alone (None: of all)."""
    if kept is not None:
        least = jax.lax.top_k(scores, kept)[0][:, -1:]
        scores = jnp.where(scores >= least, scores, -jnp.inf)
    return jax.nn.softmax(scores)


def imbalance(weights: jax.Array) -> jax.Array:
    """CV² of the sums over rows: [B, experts] → []; 0 where all are alike."""
    importance = weights.sum(axis=0)
    return jnp.var(importance) / jnp.square(jnp.mean(importance))


class Experts(hk.Module):
    """Perceptrons of one hidden layer on the same inputs, as products over stacked matrices."""

    def __init__(
        self,
        experts: int,
        width: int,
        outputs: int,
        activation: Activation,
        init_scale: jax.Array | float = 1.0,
    ):
        super().__init__()
        self.experts, self.width, self.outputs = experts, width, outputs
        self.activation, self.init_scale = activation, init_scale

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Shapes: [B, n] → [B, experts, outputs]."""
        hidden = self.activation(
            self._layer("hidden", "bn,enh->beh", inputs, self.width, self.init_scale)
        )
        return self._layer("logits", "beh,eho->beo", hidden, self.outputs, 1.0)

    def _layer(
        self, name: str, product: str, inputs: jax.Array, outputs: int, scale: jax.Array | float
    ) -> jax.Array:
        inner = inputs.shape[-1]
        shape = [self.experts, inner, outputs]
        weights = hk.get_parameter(f"{name}_w", shape, init=scaled(scale, inner))
        biases = hk.get_parameter(f"{name}_b", [self.experts, outputs], init=jnp.zeros)
        return jnp.einsum(product, inputs, weights) + biases[None]


def _moe(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "relu")
    experts, width = widths
    kept = min(KEPT, experts) if option == "sparse" else None

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        flat = batch["image"].reshape(batch["image"].shape[0], -1)
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        weights = gates(hk.Linear(experts, name="gate")(flat), kept)
        opinions = Experts(experts, width, facts.classes, chosen, scale)(flat)
        entropy, metrics = classification(jnp.einsum("be,beo->bo", weights, opinions), batch)
        return entropy + BALANCE * imbalance(weights), metrics

    return ImageModel(
        loss,
        math.log(facts.classes),
        activation,
        domain="mixture of experts",
        sample=sample_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "moe": Architecture(
        f"mixture: experts, and hidden units of each; sparse keeps {KEPT} of them",
        "4x16", (2, 2), (VARIED, *ACTIVATIONS, "sparse"), _moe, all_but_the_first,
    ),
}  # fmt: skip
