"""Where images come from: what is known of a set before it is read, and how it is read."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from tasks.data.embedded import load_fashion_mnist_8x8
from tasks.data.splits import ImageSet
from tasks.data.tfds_images import load_tfds_images


class ImageSource(NamedTuple):
    """Images [resolution, resolution, channels] of ``classes``; ``read()`` brings them."""

    name: str
    resolution: int
    channels: int
    classes: int
    read: Callable[[], ImageSet]


class KnownSet(NamedTuple):
    """What a TFDS set is known to hold."""

    channels: int
    classes: int


KNOWN: Mapping[str, KnownSet] = {
    "mnist": KnownSet(1, 10),
    "fashion_mnist": KnownSet(1, 10),
    "kmnist": KnownSet(1, 10),
    "emnist": KnownSet(1, 62),
    "cifar10": KnownSet(3, 10),
    "cifar100": KnownSet(3, 100),
    "svhn_cropped": KnownSet(3, 10),
    "food101": KnownSet(3, 101),
    "imagenet_resized": KnownSet(3, 1000),
}
"""TFDS sets whose tasks can be listed where they are not prepared."""

EMBEDDED: Mapping[tuple[str, int], ImageSource] = {
    ("fashion_mnist", 8): ImageSource("fashion_mnist", 8, 1, 10, load_fashion_mnist_8x8),
}
"""Sets that come with the package, by name and resolution."""


def in_memory(images: ImageSet) -> ImageSource:
    """The source of a set that has been read."""
    _, side, _, channels = images.train[0].shape
    return ImageSource(images.name, side, channels, images.classes, lambda: images)


def image_source(name: str, resolution: int, *, download: bool = False) -> ImageSource:
    """The embedded set of this name and resolution, or else the TFDS set, read.

    Raises:
      DataUnavailableError: the TFDS set cannot be read here.
    """
    if embedded := EMBEDDED.get((name, resolution)):
        return embedded
    return in_memory(load_tfds_images(name, resolution, download=download))


def listed_source(name: str, resolution: int) -> ImageSource:
    """The same without reading a set that is in `KNOWN`: what is read must be as known."""
    if embedded := EMBEDDED.get((name, resolution)):
        return embedded
    known = KNOWN[name]
    read = partial(load_tfds_images, name, resolution)
    return ImageSource(name, resolution, known.channels, known.classes, read)
