"""Augmentations of what a task is trained on.

batch            the first N examples of every minibatch
label_noise      a share of the training labels drawn anew among all classes, once and for all
permute_pixels   the pixels of all images in one other order
"""

from collections.abc import Mapping

import jax
import numpy as np

from tasks.augmentations.base import AugmentationError
from tasks.base import Arrays, Batch, TaskFamily

NOISE_SEED = 0


def reduce_batch(family: TaskFamily, size: int) -> TaskFamily:
    """Minibatches of ``size`` examples, a part of those that the family draws."""
    own = family.metadata.batch_size
    if size > own:
        raise AugmentationError(f"N={size} exceeds the minibatch of {family.name!r}, {own}")

    def batch(key: jax.Array, arrays: Arrays) -> Batch:
        drawn = family.batch(key, arrays)
        if any(leaf.shape[:1] != (own,) for leaf in jax.tree.leaves(drawn)):
            raise AugmentationError(
                f"the task {family.name!r} has no minibatches of {own} examples; leave out `batch`"
            )
        return jax.tree.map(lambda leaf: leaf[:size], drawn)

    return family._replace(batch=batch, metadata=family.metadata._replace(batch_size=size))


def label_noise(family: TaskFamily, noisy: float) -> TaskFamily:
    """A ``noisy`` share of the training labels uniform on all classes, the right one too.

    The other splits keep their labels: losses on them say what was learned in spite of it.
    """

    def load() -> Mapping[str, Arrays]:
        splits = family.load()
        _check_field(family, splits, "label", "label_noise")
        labels = np.asarray(splits["train"]["label"])
        classes = 1 + max(int(np.max(arrays["label"])) for arrays in splits.values())
        random = np.random.default_rng(NOISE_SEED)
        changed = random.random(labels.shape) < noisy
        drawn = random.integers(classes, size=labels.shape, dtype=labels.dtype)
        train = {**splits["train"], "label": np.where(changed, drawn, labels)}
        return {**splits, "train": train}

    return family._replace(load=load)


def permute_pixels(family: TaskFamily, seed: int) -> TaskFamily:
    """The pixels of the images of every split in one order, drawn by ``seed``."""

    def load() -> Mapping[str, Arrays]:
        splits = family.load()
        _check_field(family, splits, "image", "permute_pixels")
        return {name: _with_permuted(arrays, seed) for name, arrays in splits.items()}

    return family._replace(load=load)


def _with_permuted(arrays: Arrays, seed: int) -> Arrays:
    images = np.asarray(arrays["image"])
    count, height, width, channels = images.shape
    order = np.random.default_rng(seed).permutation(height * width)
    flat = images.reshape(count, height * width, channels)
    return {**arrays, "image": flat[:, order].reshape(images.shape)}


def _check_field(
    family: TaskFamily, splits: Mapping[str, Arrays], field: str, augmentation: str
) -> None:
    train = splits["train"]
    if not isinstance(train, Mapping) or field not in train:
        raise AugmentationError(
            f"the data of the task {family.name!r} have no {field}; leave out `{augmentation}`"
        )
