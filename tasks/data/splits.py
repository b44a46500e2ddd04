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


def split_rows(train: int, test: int | None) -> Mapping[str, tuple[str, np.ndarray]]:
    """Where the examples of the four splits of `tasks.base.SPLITS` are, the same at every call.

    The training images, shuffled with a fixed seed, give 10 % to each validation split;
    the set's own test split is the test split, or else 10 % of the images are.

    Args:
      train: examples of the set's training split.
      test: those of its test split; None where it has none.

    Returns:
      {split: ("train" or "test", rows of that part of the set)}.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(train)
    if test is None:
        held = max(1, round(TEST_SHARE * len(order)))
        tested, order = ("train", order[:held]), order[held:]
    else:
        tested = ("test", np.random.default_rng(SPLIT_SEED).permutation(test))
    held = max(1, round(VALIDATION_SHARE * len(order)))
    return {
        "train": ("train", order[2 * held :]),
        "inner_validation": ("train", order[:held]),
        "outer_validation": ("train", order[held : 2 * held]),
        "test": tested,
    }


def split_images(images: ImageSet) -> Mapping[str, Mapping[str, np.ndarray]]:
    """The four splits of a set in memory, by `split_rows`.

    Returns:
      {split: {"image": uint8 [n, h, w, c], "label": int32 [n], "mean", "std": float32
      [1, 1, 1, c]}}; mean and std are those of the train split, in units of 0…255.
    """
    parts = {"train": images.train, "test": images.test}
    found = {}
    for name, (part, rows) in split_rows(
        len(images.train[1]), None if images.test is None else len(images.test[1])
    ).items():
        examples = parts[part]
        assert examples is not None
        found[name] = (examples[0][rows], examples[1][rows])
    moments = moments_of(found["train"][0])
    return {
        name: {"image": image, "label": label, **moments} for name, (image, label) in found.items()
    }


def moments_of(pixels: np.ndarray) -> Mapping[str, np.ndarray]:
    """{"mean", "std"} of the channels, float32 [1, 1, 1, c]; std is at least 1."""
    mean = pixels.mean(axis=(0, 1, 2), dtype=np.float64, keepdims=True).astype(np.float32)
    std = pixels.std(axis=(0, 1, 2), dtype=np.float64, keepdims=True).astype(np.float32)
    return {"mean": mean, "std": np.maximum(std, 1)}  # of constant images
