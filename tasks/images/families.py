"""Families of tasks on images: a source of images and a model."""

from functools import partial

import jax
import jax.numpy as jnp

from tasks.base import Arrays, Batch, Configuration, Task, TaskFamily, TaskMetadata
from tasks.data.splits import split_images
from tasks.haiku_task import haiku_task
from tasks.images.architectures import ImageFacts, ModelName, architectures
from tasks.images.sources import ImageSource

BATCH_SIZE = 64
HORIZON = 200


def image_family(
    name: str,
    source: ImageSource,
    model: ModelName,
    *,
    batch_size: int = BATCH_SIZE,
    horizon: int = HORIZON,
) -> TaskFamily:
    """A family of models of one data set, which is read when its data are loaded.

    Args:
      name: of the family.
      source: the data.
      model: the name of the model in its parts.
      batch_size: examples of a minibatch.
      horizon: inner steps that suit it.
    """
    facts = ImageFacts(source.resolution, source.channels, source.classes)
    architecture = architectures()[model.architecture]
    made = architecture.make(facts, model.widths, model.option)
    shape = (source.resolution, source.resolution, source.channels)
    # Two examples: a model may compare them.
    example = {"image": jnp.zeros((2, *shape)), "label": jnp.zeros(2, jnp.int32)}

    def build(cfg: Configuration) -> Task:
        return haiku_task(partial(made.loss, cfg), example)

    return TaskFamily(
        name=name,
        metadata=TaskMetadata(
            domain=made.domain,
            architecture=model.architecture,
            activation=made.activation,
            data=f"{source.name} at {source.resolution}×{source.resolution}",
            widths=architecture.hidden(model.widths),
            batch_size=batch_size,
            horizon=horizon,
            initial_loss=made.initial_loss,
        ),
        load=lambda: split_images(source.read()),
        sample=made.sample,
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
