"""Softmax regression, multilayer perceptrons and their autoencoders, on flattened images."""

import math
from collections.abc import Callable, Sequence

import haiku as hk
import jax

from tasks.base import Batch, Configuration, Metrics
from tasks.images.architectures import Architecture, ImageFacts, ImageModel
from tasks.images.objectives import classification, reconstruction, squared_error
from tasks.images.variation import (
    ACTIVATIONS,
    NEAR_ZERO,
    VARIED,
    Activation,
    activation_name,
    activation_of,
    init_scale_of,
    noised,
    nothing,
    sample_noisy_variation,
    sample_variation,
    scaled,
)

DROPPED = 0.2


def as_it_is(hidden: jax.Array) -> jax.Array:
    """Nothing between a layer and its activation."""
    return hidden


def mlp(
    inputs: jax.Array,
    widths: Sequence[int],
    outputs: int,
    activation: Activation = jax.nn.relu,
    init_scale: jax.Array | float = 1.0,
    between: Callable[[jax.Array], jax.Array] = as_it_is,
    last_init: hk.initializers.Initializer | None = None,
) -> jax.Array:
    """Hidden layers of ``widths`` on flattened inputs; no hidden layer is linear regression.

    ``init_scale`` multiplies the initial weights of the hidden layers (a traced value will do);
    ``between`` comes between a linear layer and its activation; ``last_init`` makes the weights
    of the last layer, in place of Haiku's own initializer.
    Shapes: [B, …] → [B, outputs].
    """
    hidden = inputs.reshape(inputs.shape[0], -1)
    for i, width in enumerate(widths):
        w_init = scaled(init_scale, hidden.shape[-1])
        hidden = hk.Linear(width, w_init=w_init, name=f"hidden_{i}")(hidden)
        hidden = activation(between(hidden))
    return hk.Linear(outputs, w_init=last_init, name="logits")(hidden)


def layer_norm(hidden: jax.Array) -> jax.Array:
    """Over the last axis, with scale and offset."""
    return hk.LayerNorm(-1, create_scale=True, create_offset=True)(hidden)


def batch_norm(hidden: jax.Array) -> jax.Array:
    """By the statistics of the minibatch at hand, in training as in scoring."""
    normalized = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)
    return normalized(hidden, is_training=True)


def dropout(hidden: jax.Array) -> jax.Array:
    """A share of `DROPPED` of the units is left out, in training as in scoring."""
    return hk.dropout(hk.next_rng_key(), DROPPED, hidden)


BETWEEN = {"layernorm": layer_norm, "batchnorm": batch_norm, "dropout": dropout}


def _softmax(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    del option

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        del cfg
        return classification(mlp(batch["image"], widths, facts.classes), batch)

    return ImageModel(loss, math.log(facts.classes), "none")


def _mlp(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "relu")
    between = BETWEEN.get(option, as_it_is)
    objective, last_init, initial_loss = classification, None, math.log(facts.classes)
    if option == "squared":  # an output of zero is what a model that knows nothing should say
        objective, last_init, initial_loss = squared_error, NEAR_ZERO, 1.0

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        logits = mlp(batch["image"], widths, facts.classes, chosen, scale, between, last_init)
        return objective(logits, batch)

    return ImageModel(
        loss,
        initial_loss,
        activation,
        sample=sample_variation if option == VARIED else nothing,
    )


def _autoencoder(facts: ImageFacts, widths: tuple[int, ...], option: str) -> ImageModel:
    activation = activation_name(option, "relu")
    outputs = facts.side**2 * facts.channels
    last_init = NEAR_ZERO if option == VARIED else None  # whatever the scale of hidden weights

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        chosen, scale = activation_of(cfg, activation), init_scale_of(cfg)
        noisy = noised(batch["image"], cfg)
        output = mlp(noisy, widths, outputs, chosen, scale, last_init=last_init)
        return reconstruction(output, batch)

    return ImageModel(
        loss,
        1.0,
        activation,
        domain="image reconstruction",
        sample=sample_noisy_variation if option == VARIED else nothing,
    )


ARCHITECTURES = {
    "softmax": Architecture("softmax regression", "", (0, 0), (), _softmax),
    "mlp": Architecture(
        "hidden widths", "32x32", (1, None), (VARIED, *ACTIVATIONS, *BETWEEN, "squared"), _mlp
    ),
    "autoencoder": Architecture(
        "hidden widths of a perceptron that reconstructs", "32x8x32", (1, None),
        (VARIED, *ACTIVATIONS), _autoencoder,
    ),
}  # fmt: skip
