"""Families of tasks on images: classification and autoencoding."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Arrays, Batch, Configuration, Task, TaskFamily, TaskMetadata
from tasks.data.splits import ImageSet, split_images
from tasks.image_models import ACTIVATIONS, conv_net, mlp

BATCH_SIZE = 64
HORIZON = 200
INIT_SCALES = (0.3, 3.0)  # of a varied family: log-uniform
ARCHITECTURES = ("softmax", "mlp", "conv", "autoencoder")


def image_family(
    name: str,
    images: ImageSet,
    *,
    architecture: str,
    widths: tuple[int, ...] = (),
    activation: str = "relu",
    varied: bool = False,
    batch_size: int = BATCH_SIZE,
) -> TaskFamily:
    """A family of models of one data set.

    Args:
      name: of the family.
      images: the data.
      architecture: ``softmax``, ``mlp``, ``conv`` (classifiers) or ``autoencoder``
        (an MLP with these hidden widths that reconstructs the standardised image).
      widths: hidden widths, or channels.
      activation: of the hidden layers of an MLP; a name in `ACTIVATIONS`.
      varied: sample the activation, and the scale of the initial hidden weights
        (log-uniform in [0.3, 3]), for every task; ``activation`` is then not used.
      batch_size: examples of a minibatch.
    """
    shape = images.train[0].shape[1:]
    reconstructs = architecture == "autoencoder"
    outputs = math.prod(shape) if reconstructs else images.classes

    def forward(cfg: Configuration, pixels: jax.Array) -> jax.Array:
        if architecture == "conv":
            return conv_net(pixels, widths, outputs)
        if varied:
            functions = list(ACTIVATIONS.values())
            chosen = partial(jax.lax.switch, cfg["activation"], functions)
            return mlp(pixels, widths, outputs, chosen, cfg["init_scale"])
        return mlp(pixels, widths, outputs, ACTIVATIONS[activation])

    def build(cfg: Configuration) -> Task:
        network = hk.transform_with_state(partial(forward, cfg))
        objective = _reconstruction if reconstructs else _classification

        def loss(params: Any, model_state: Any, key: jax.Array, batch: Batch) -> tuple:
            output, model_state = network.apply(params, model_state, key, batch["image"])
            value, metrics = objective(output, batch)
            return value, (model_state, metrics)

        return Task(lambda key: network.init(key, jnp.zeros((1, *shape))), loss)

    return TaskFamily(
        name=name,
        metadata=TaskMetadata(
            domain="image reconstruction" if reconstructs else "image classification",
            architecture=architecture,
            activation="varied" if varied else activation if widths else "none",
            data=f"{images.name} at {shape[0]}×{shape[1]}",
            widths=widths,
            batch_size=batch_size,
            horizon=HORIZON,
            initial_loss=1.0 if reconstructs else math.log(images.classes),
        ),
        load=lambda: split_images(images),
        sample=_sample_variation if varied else _sample_nothing,
        build=build,
        batch=partial(draw_batch, size=batch_size),
        examples=first_examples,
    )


def draw_batch(key: jax.Array, arrays: Arrays, size: int = BATCH_SIZE) -> Batch:
    """``size`` examples drawn with replacement: image [size, h, w, c], standardised."""
    images, labels = jnp.asarray(arrays["image"]), jnp.asarray(arrays["label"])
    rows = jax.random.randint(key, (size,), 0, labels.shape[0])
    return _standardized(arrays, images[rows], labels[rows])


def first_examples(arrays: Arrays, limit: int) -> Batch:
    """The first ``limit`` examples of a split (splits are shuffled once and for all)."""
    return _standardized(arrays, arrays["image"][:limit], arrays["label"][:limit])


def _standardized(arrays: Arrays, image: jax.Array, label: jax.Array) -> Batch:
    pixels = (jnp.asarray(image, jnp.float32) - arrays["mean"]) / arrays["std"]
    return {"image": pixels, "label": jnp.asarray(label)}


def _classification(logits: jax.Array, batch: Batch) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Mean cross-entropy in nats."""
    log_probability = jax.nn.log_softmax(logits)
    labels = batch["label"]
    loss = -jnp.mean(jnp.take_along_axis(log_probability, labels[:, None], axis=1))
    return loss, {"accuracy": jnp.mean(jnp.argmax(logits, axis=1) == labels)}


def _reconstruction(output: jax.Array, batch: Batch) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Mean squared error; 1 for the mean image of a standardised set."""
    return jnp.mean(jnp.square(output - batch["image"].reshape(output.shape))), {}


def _sample_nothing(key: jax.Array) -> Configuration:
    del key
    return {}


def _sample_variation(key: jax.Array) -> Configuration:
    key_activation, key_scale = jax.random.split(key)
    low, high = np.log(INIT_SCALES)
    return {
        "activation": jax.random.randint(key_activation, (), 0, len(ACTIVATIONS)),
        "init_scale": jnp.exp(jax.random.uniform(key_scale, (), minval=low, maxval=high)),
    }
