"""Families by name.

A name of a family of images reads ``DATASET_RxR_MODEL``: a TFDS set (``fashion_mnist`` at
8×8 is embedded), a resolution, and one of

    softmax                      softmax regression
    mlp32, mlp32x32_tanh         hidden widths, activation (relu where none is named)
    mlp32_varied                 activation and initial scale drawn for every task
    conv16x32                    channels of 3×3 convolutions of stride 2
    autoencoder32x8x32           hidden widths

and ``quadraticD`` is the family of quadratics of dimension D.

Augmentations follow a name, each after a plus sign: see `tasks.augmentations`.
"""

import re

from tasks.augmentations import augment, split_name
from tasks.base import TaskFamily
from tasks.data.embedded import load_fashion_mnist_8x8
from tasks.data.splits import ImageSet
from tasks.data.tfds_images import load_tfds_images
from tasks.image_families import BATCH_SIZE, image_family
from tasks.image_models import ACTIVATIONS
from tasks.quadratics import quadratic_family

OFFLINE_FAMILIES = (
    "fashion_mnist_8x8_softmax",
    "fashion_mnist_8x8_mlp32",
    "fashion_mnist_8x8_mlp32_varied",
    "fashion_mnist_8x8_mlp64",
    "fashion_mnist_8x8_mlp32x32",
    "fashion_mnist_8x8_mlp32x32x32_tanh",
    "fashion_mnist_8x8_conv16x32",
    "fashion_mnist_8x8_autoencoder32x8x32",
    "quadratic32",
)
"""Families that need no network and no prepared data set."""

_IMAGES = re.compile(r"(?P<dataset>.+)_(?P<side>\d+)x(?P=side)_(?P<model>[a-z]+)(?P<rest>\w*)")
_WIDTHS = re.compile(r"(?P<widths>[1-9]\d*(x[1-9]\d*)*)(_(?P<option>[a-z]+))?")
_QUADRATIC = re.compile(r"quadratic([1-9]\d*)")


class UnknownTaskError(ValueError):
    """No family has this name."""

    def __init__(self, name: str):
        super().__init__(
            f"unknown task {name!r}; offline ones are {', '.join(OFFLINE_FAMILIES)}; any TFDS "
            "image set goes by DATASET_RxR_MODEL with a MODEL like theirs, its activation one of "
            f"{', '.join(ACTIVATIONS)} or varied; any may be followed by augmentations"
        )


def get_family(name: str, *, download: bool = False, batch_size: int | None = None) -> TaskFamily:
    """The family of this name, its data read.

    Args:
      name: see the top of this file.
      download: prepare a TFDS set that is not there.
      batch_size: examples of a minibatch, in place of the family's own.

    Raises:
      UnknownTaskError: a name of none of the forms above.
      AugmentationError: an augmentation is unknown or cannot be made.
      ValueError: the family has no minibatches of examples, or the size is below 1.
      DataUnavailableError: its TFDS set cannot be read here.
    """
    name, augmentations = split_name(name)
    family = _plain_family(name, download, batch_size)
    for augmentation in augmentations:
        family = augment(family, augmentation)
    return family


def _plain_family(name: str, download: bool, batch_size: int | None) -> TaskFamily:
    """The family of a name without augmentations."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}: must be at least 1")
    if quadratic := _QUADRATIC.fullmatch(name):
        if batch_size is not None:
            raise ValueError(
                f"`batch_size`={batch_size}: the family {name!r} has no minibatches of examples; "
                "leave it out"
            )
        return quadratic_family(name, int(quadratic[1]))
    match = _IMAGES.fullmatch(name)
    if match is None or not 1 <= int(match["side"]) <= 1024:
        raise UnknownTaskError(name)
    architecture, rest = match["model"], match["rest"]
    widths = _WIDTHS.fullmatch(rest)
    option = (widths and widths["option"]) or ""
    legal_options = {"mlp": {"", "varied", *ACTIVATIONS}, "conv": {""}, "autoencoder": {""}}
    if architecture == "softmax":
        legal = rest == ""
    else:
        legal = widths is not None and option in legal_options.get(architecture, ())
    if not legal:
        raise UnknownTaskError(name)
    return image_family(
        name,
        _load_images(match["dataset"], int(match["side"]), download),
        architecture=architecture,
        widths=tuple(map(int, widths["widths"].split("x"))) if widths else (),
        activation=option if option in ACTIVATIONS else "relu",
        varied=option == "varied",
        batch_size=BATCH_SIZE if batch_size is None else batch_size,
    )


def _load_images(dataset: str, resolution: int, download: bool) -> ImageSet:
    if (dataset, resolution) == ("fashion_mnist", 8):
        return load_fashion_mnist_8x8()
    return load_tfds_images(dataset, resolution, download=download)
