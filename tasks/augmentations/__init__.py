"""Augmentations: from a family of tasks to another, by a name such as ``delay:10``.

In the name of a task they follow each other, the first one next to the family:

    fashion_mnist_8x8_mlp32+reparametrize_tensor:0.1:10+batch:16

Each leaves the function at initialisation as its own file states.
"""

from collections.abc import Mapping

from tasks.augmentations.base import (
    Augmentation,
    AugmentationError,
    count,
    one_of,
    positive,
    seed,
    share,
)
from tasks.augmentations.cast import DTYPES, cast
from tasks.augmentations.data import label_noise, permute_pixels, reduce_batch
from tasks.augmentations.distortions import crop, flip, noise
from tasks.augmentations.gradients import delay, scale_gradient, scale_loss
from tasks.augmentations.mixup import mixup
from tasks.augmentations.reparametrize import reparametrize
from tasks.augmentations.subspace import subspace
from tasks.base import TaskFamily

__all__ = ["AUGMENTATIONS", "Augmentation", "AugmentationError", "augment", "split_name"]

SEPARATOR = "+"

_RANGE = (positive("LOW"), positive("HIGH"))

AUGMENTATIONS: Mapping[str, Augmentation] = {
    "reparametrize_global": Augmentation(
        _RANGE, "one scale of all parameters, log-uniform for every task", reparametrize("global")
    ),
    "reparametrize_tensor": Augmentation(
        _RANGE, "a scale for every tensor, log-uniform", reparametrize("tensor")
    ),
    "reparametrize_parameter": Augmentation(
        _RANGE, "a scale for every parameter, log-uniform", reparametrize("parameter")
    ),
    "subspace": Augmentation((count("D"),), "train in D random directions", subspace),
    "cast": Augmentation((one_of("DTYPE", *DTYPES),), "compute the loss in this dtype", cast),
    "batch": Augmentation((count("N"),), "minibatches of N examples", reduce_batch),
    "label_noise": Augmentation((share("P"),), "P of the training labels at random", label_noise),
    "permute_pixels": Augmentation((seed("SEED"),), "pixels in another order", permute_pixels),
    "flip": Augmentation((), "every second training image mirrored, left to right", flip),
    "crop": Augmentation((count("P"),), "training images moved by up to P pixels", crop),
    "noise": Augmentation((positive("STD"),), "noise on the training pixels", noise),
    "mixup": Augmentation((positive("ALPHA"),), "mixtures of two training images", mixup),
    "scale_gradient": Augmentation((positive("C"),), "the gradient times C", scale_gradient),
    "scale_loss": Augmentation((positive("C"),), "the loss and its bound times C", scale_loss),
    "delay": Augmentation((count("K"),), "the gradient of K steps ago", delay),
}
"""The augmentations by name."""


def split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """The family and the augmentations, each ``NAME:ARGUMENT:…``, in the name of a task."""
    family, *augmentations = name.split(SEPARATOR)
    return family, tuple(augmentations)


def augment(family: TaskFamily, text: str) -> TaskFamily:
    """The family with one augmentation, ``NAME:ARGUMENT:…``; it is named after both.

    Raises:
      AugmentationError: there is none of this name, its arguments are not those of its form,
        or the family cannot be augmented so; the first two list the legal forms.
    """
    name, *given = text.split(":")
    if name not in AUGMENTATIONS:
        raise AugmentationError(f"unknown augmentation {name!r} of a task; {_legal_forms()}")
    augmentation = AUGMENTATIONS[name]
    if len(given) != len(augmentation.arguments):
        raise AugmentationError(
            f"the augmentation {text!r} has {len(given)} arguments; it must read "
            f"{augmentation.form(name)}; {_legal_forms()}"
        )
    values = []
    for argument, written in zip(augmentation.arguments, given, strict=True):
        try:
            values.append(argument.read(written))
        except ValueError:
            raise AugmentationError(
                f"the augmentation {text!r}: {argument.name}={written!r} must be "
                f"{argument.legal}; {_legal_forms()}"
            ) from None
    try:
        augmented = augmentation.wrap(family, *values)
    except AugmentationError as error:
        raise AugmentationError(f"the augmentation {text!r}: {error}") from None
    return augmented._replace(name=f"{family.name}{SEPARATOR}{text}")


def _legal_forms() -> str:
    return f"legal ones: {', '.join(a.form(name) for name, a in AUGMENTATIONS.items())}"
