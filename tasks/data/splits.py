"""From the images of a data set to the four splits of a task."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

VALIDATION_SHARE = 0.1  # of the training images, for each of the two validation splits
TEST_SHARE = 0.1  # of all images, where the set has no test split of its own
SPLIT_SEED = 0


class ImageSet(NamedTuple):
    """A labelled image set in memory.

    ``train`` and ``test`` are pairs (images uint8 [n, height, width, channels],
    labels int32 [n]); ``test`` is None where the set has none.
    """

    name: str
    classes: int
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray] | None


def split_images(images: ImageSet) -> Mapping[str, Mapping[str, np.ndarray]]:
    """The four splits of `tasks.base.SPLITS`, the same at every call.

    The training images, shuffled with a fixed seed, give 10 % to each validation split;
    the set's own test split is the test split, or else 10 % of the images are.

    Returns:
      {split: {"image": uint8 [n, h, w, c], "label": int32 [n], "mean", "std": float32
      [1, 1, 1, c]}}; mean and std are those of the train split, in units of 0…255.
    """
    pixels, labels = images.train
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    if images.test is None:
        held = max(1, round(TEST_SHARE * len(order)))
        test, order = (pixels[order[:held]], labels[order[:held]]), order[held:]
    else:
        mixed = np.random.default_rng(SPLIT_SEED).permutation(len(images.test[1]))
        test = (images.test[0][mixed], images.test[1][mixed])
    held = max(1, round(VALIDATION_SHARE * len(order)))
    parts = {
        "train": (pixels[order[2 * held :]], labels[order[2 * held :]]),
        "inner_validation": (pixels[order[:held]], labels[order[:held]]),
        "outer_validation": (pixels[order[held : 2 * held]], labels[order[held : 2 * held]]),
        "test": test,
    }
    seen = parts["train"][0]
    mean = seen.mean(axis=(0, 1, 2), dtype=np.float64, keepdims=True).astype(np.float32)
    std = seen.std(axis=(0, 1, 2), dtype=np.float64, keepdims=True).astype(np.float32)
    std = np.maximum(std, 1)  # of constant images
    return {
        name: {"image": image, "label": label, "mean": mean, "std": std}
        for name, (image, label) in parts.items()
    }
