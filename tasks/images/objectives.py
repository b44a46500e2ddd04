"""What models of images are trained for."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Batch, Metrics


def labels_of(batch: Batch, dtype: Any) -> list[tuple[jax.Array, jax.Array]]:
    """The labels of a batch, int32 [B], each with its share of every example, [B] of ``dtype``.

    There is one, unless images were mixed in pairs: see `tasks.augmentations.mixup`.
    """
    label = batch["label"]
    if "mixed" not in batch:
        return [(label, jnp.ones(label.shape, dtype))]
    share = batch["mixed"]["share"].astype(dtype)
    return [(label, 1 - share), (batch["mixed"]["label"], share)]


def classification(logits: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Mean cross-entropy in nats; log of the number of classes where nothing is known."""
    log_probability = jax.nn.log_softmax(logits)

    def chosen(label: jax.Array) -> jax.Array:
        return jnp.take_along_axis(log_probability, label[:, None], axis=1)[:, 0]

    likelihood = sum(share * chosen(label) for label, share in labels_of(batch, logits.dtype))
    return -jnp.mean(likelihood), {"accuracy": _accuracy(logits, batch)}


def squared_error(logits: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Mean over examples of the squared distance to the one-hot label; 1 for an output of zero."""
    target = sum(
        share[:, None] * jax.nn.one_hot(label, logits.shape[1], dtype=logits.dtype)
        for label, share in labels_of(batch, logits.dtype)
    )
    loss = jnp.mean(jnp.sum(jnp.square(logits - target), axis=1))
    return loss, {"accuracy": _accuracy(logits, batch)}


def _accuracy(logits: jax.Array, batch: Batch) -> jax.Array:
    """The share of the examples whose label has the largest output."""
    found = jnp.argmax(logits, axis=1)
    return jnp.mean(sum(share * (found == label) for label, share in labels_of(batch, jnp.float32)))


def brier(logits: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Squared distance of the probabilities to the one-hot label, in units of ignorance (1).

    Brier 1950; ignorance is 1 − 1/classes.
    """
    scaled = 1 / (1 - 1 / logits.shape[1])
    loss, metrics = squared_error(jax.nn.softmax(logits), batch)
    return scaled * loss, metrics


def mixed(logits: jax.Array, batch: Batch, share: jax.Array) -> tuple[jax.Array, Metrics]:
    """``share`` of `brier`, the rest of cross-entropy, in units of ignorance (1) as well."""
    entropy, metrics = classification(logits, batch)
    squared, _ = brier(logits, batch)
    return (1 - share) * entropy / math.log(logits.shape[1]) + share * squared, metrics


def reconstruction(output: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Mean squared error; 1 for the mean image of a standardised set."""
    return jnp.mean(jnp.square(output - batch["image"].reshape(output.shape))), {}
