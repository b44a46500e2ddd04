"""What tasks without a data set share: examples drawn by key, apart for every split."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import (
    SPLITS,
    Arrays,
    Batch,
    Configuration,
    Metrics,
    Task,
    TaskFamily,
    TaskMetadata,
)
from tasks.haiku_task import haiku_task

SCORED_SEED = 0

Draw = Callable[[jax.Array, int], Batch]


def load() -> Mapping[str, Arrays]:
    """The number of each split, which keeps its examples apart from those of the others."""
    return {split: {"split": np.int32(i)} for i, split in enumerate(SPLITS)}


def drawing(
    draw: Draw, size: int
) -> tuple[Callable[[jax.Array, Arrays], Batch], Callable[[Arrays, int], Batch]]:
    """``batch`` and ``examples`` of a family, from ``draw(key, count) -> batch``."""

    def batch(key: jax.Array, arrays: Arrays) -> Batch:
        return draw(jax.random.fold_in(key, arrays["split"]), size)

    def examples(arrays: Arrays, limit: int) -> Batch:
        key = jax.random.fold_in(jax.random.key(SCORED_SEED), jnp.asarray(arrays["split"]))
        return draw(key, limit)

    return batch, examples


def synthetic_family(
    name: str,
    metadata: TaskMetadata,
    draw: Draw,
    loss: Callable[[Configuration, Batch], tuple[jax.Array, Metrics]],
    sample: Callable[[jax.Array], Configuration] = lambda key: {},
) -> TaskFamily:
    """The family of ``loss(cfg, batch)``, which makes Haiku modules, on what ``draw`` draws."""
    shapes = jax.eval_shape(lambda key: draw(key, 2), jax.random.key(0))
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    batch, examples = drawing(draw, metadata.batch_size)

    def build(cfg: Configuration) -> Task:
        return haiku_task(partial(loss, cfg), example)

    return TaskFamily(name, metadata, load, sample, build, batch, examples)
