"""Which tasks are for meta-training, which for meta-validation, and which are held out: by rule.

A task is held out along every axis on which it lies outside what meta-training may meet:

    architecture, data   it is in the list of those kept back
    modality             its domain is
    width, depth         a hidden layer is wider than 128; there are more than 4
    horizon, batch       it is longer than 500 steps; its minibatch is larger than 128

One axis makes it of ``held_out_AXIS``, several of ``held_out_together``. What is left is of
``meta_validation`` where it is larger or longer than any of ``meta_train``: wider than 64, deeper
than 3, longer than 200 steps, or in minibatches of more than 64.
"""

import re
from collections.abc import Callable, Mapping

from tasks.base import TaskMetadata

HELD_OUT_ARCHITECTURES = frozenset({"gat", "lstm", "mmd", "resnet", "vit"})
HELD_OUT_DATA_SETS = frozenset(
    {
        "cifar100",
        "elnino",
        "food101",
        "imagenet_resized",
        "imdb_reviews",
        "svhn_cropped",
        "wiki40b_de",
        "wiki40b_en",
        "wine",
    }
)
HELD_OUT_DOMAINS = frozenset({"control", "sets and graphs"})

Measure = Callable[[TaskMetadata], int]

_SIZES: Mapping[str, tuple[Measure, int, int]] = {
    "width": (lambda metadata: max(metadata.widths, default=0), 64, 128),
    "depth": (lambda metadata: len(metadata.widths), 3, 4),
    "horizon": (lambda metadata: metadata.horizon, 200, 500),
    "batch": (lambda metadata: metadata.batch_size, 64, 128),
}
"""Axis: its measure, the most in meta-training, and the most in meta-validation."""

AXES = ("architecture", "data", "modality", *_SIZES)
TASK_SPLITS = (
    "meta_train",
    "meta_validation",
    *(f"held_out_{axis}" for axis in AXES),
    "held_out_together",
)


def data_set(metadata: TaskMetadata) -> str:
    """The name of the set alone: ``fashion_mnist`` of ``fashion_mnist at 8×8``."""
    found = re.match(r"\w+", metadata.data)
    return found[0] if found else metadata.data


def held_out_axes(metadata: TaskMetadata) -> tuple[str, ...]:
    """The axes on which a task lies outside meta-training and meta-validation."""
    outside = {
        "architecture": metadata.architecture in HELD_OUT_ARCHITECTURES,
        "data": data_set(metadata) in HELD_OUT_DATA_SETS,
        "modality": metadata.domain in HELD_OUT_DOMAINS,
    }
    outside |= {axis: measure(metadata) > most for axis, (measure, _, most) in _SIZES.items()}
    return tuple(axis for axis in AXES if outside[axis])


def task_split(metadata: TaskMetadata) -> str:
    """The one of `TASK_SPLITS` that a task is of."""
    axes = held_out_axes(metadata)
    if len(axes) == 1:
        return f"held_out_{axes[0]}"
    if axes:
        return "held_out_together"
    larger = any(measure(metadata) > most for measure, most, _ in _SIZES.values())
    return "meta_validation" if larger else "meta_train"
