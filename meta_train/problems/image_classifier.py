"""A multi-layer perceptron on images, trained by SGD with momentum: what problems are made of.

    v ← μ v + g;    p ← p − α v

with a rate α and a momentum μ for every weight matrix and every bias vector.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tasks.base import Batch


class Layer(NamedTuple):
    """A linear layer, or one value for each of its two tensors.

    ``weight`` [inputs, outputs]; ``bias`` [outputs].
    """

    weight: Any
    bias: Any


Network = tuple[Layer, ...]


class ClassifierState(NamedTuple):
    """An inner training run: the network, its velocity (like it), and t, int32 []."""

    network: Network
    velocity: Network
    time: jax.Array


def init_training(key: jax.Array, sizes: Sequence[int]) -> ClassifierState:
    """A network that has not been trained; the velocity is zero.

    Weights are truncated normal with standard deviation 1/√inputs, biases zero: Haiku's
    default, with which the experiments of the papers begin.

    Args:
      key: of the weights.
      sizes: of the flattened image, of every hidden layer, and of the output.
    """
    keys = jax.random.split(key, len(sizes) - 1)
    network = tuple(
        Layer(
            jax.nn.initializers.truncated_normal(inputs**-0.5)(key, (inputs, outputs)),
            jnp.zeros(outputs),
        )
        for key, (inputs, outputs) in zip(keys, pairwise(sizes), strict=True)
    )
    return ClassifierState(network, jax.tree.map(jnp.zeros_like, network), jnp.zeros((), jnp.int32))


def logits(network: Network, gates: Sequence[jax.Array], images: jax.Array) -> jax.Array:
    """Hidden layers of ReLU, each multiplied by its gate ([1, width], or [1, 1]).

    Shapes: [B, h, w, c] → [B, classes].
    """
    hidden = images.reshape(images.shape[0], -1)
    for layer, gate in zip(network[:-1], gates, strict=True):
        hidden = gate * jax.nn.relu(hidden @ layer.weight + layer.bias[None])
    return hidden @ network[-1].weight + network[-1].bias[None]


def cross_entropy(network: Network, gates: Sequence[jax.Array], batch: Batch) -> jax.Array:
    """Mean over the batch, in nats. Shape []."""
    log_probability = jax.nn.log_softmax(logits(network, gates, batch["image"]))
    chosen = jnp.take_along_axis(log_probability, batch["label"][:, None], axis=1)
    return -chosen.mean()


def accuracy(network: Network, gates: Sequence[jax.Array], batch: Batch) -> jax.Array:
    """Share of the batch whose most probable class is the label; without a gradient. Shape []."""
    correct = logits(network, gates, batch["image"]).argmax(axis=1) == batch["label"]
    return correct.astype(jnp.float32).mean()


def train_step(
    state: ClassifierState,
    gates: Sequence[jax.Array],
    rates: Network,
    momenta: Network,
    batch: Batch,
) -> ClassifierState:
    """The equation at the top of this file; ``rates`` and ``momenta`` have one number a tensor."""
    gradient = jax.grad(cross_entropy)(state.network, gates, batch)
    velocity = jax.tree.map(lambda mu, v, g: mu * v + g, momenta, state.velocity, gradient)
    network = jax.tree.map(lambda p, a, v: p - a * v, state.network, rates, velocity)
    return ClassifierState(network, velocity, state.time + 1)
