"""Tasks on images by name: ``DATASET_RxR_MODEL``, a model of `tasks.images.architectures`."""

import re
from collections.abc import Callable
from functools import partial

from tasks.architectures import forms
from tasks.base import TaskFamily
from tasks.catalogue import Grammar
from tasks.data.stream import open_stream
from tasks.data.tfds_images import load_tfds_images
from tasks.images.architectures import ModelName, architectures, parse_model
from tasks.images.families import BATCH_SIZE, image_family
from tasks.images.sources import ImageSource, image_source, listed_source

_NAME = re.compile(r"(?P<dataset>.+)_(?P<side>[1-9]\d*)x(?P=side)_(?P<model>[a-z]\w*)")
LARGEST_SIDE = 1024


def listed_image_family(name: str, **how: int) -> TaskFamily:
    """The family of a set that is embedded or known: no data are read before its ``load``."""
    family = _named(name, listed_source, **how)
    if family is None:
        raise ValueError(f"{name!r} is no DATASET_RxR_MODEL")
    return family


def _family(name: str, download: bool, batch_size: int | None) -> TaskFamily | None:
    source = partial(image_source, download=download)
    return _named(name, source, batch_size=BATCH_SIZE if batch_size is None else batch_size)


def streamed_image_family(name: str, *, rows: int, seed: int, download: bool) -> TaskFamily | None:
    """The family of this name with a pool of ``rows`` training images, shuffled by ``seed``.

    None where it is no such name; raises as `open_stream`.
    """
    parts = _parts(name)
    if parts is None:
        return None
    dataset, side, model = parts
    images = open_stream(dataset, side, rows=rows, seed=seed, download=download)
    facts, read = images.prepared, partial(load_tfds_images, dataset, side)
    source = ImageSource(dataset, side, facts.channels, facts.classes, read)
    return image_family(name, source, model)._replace(load=images.splits, pool=images.pool)


def set_and_resolution(name: str) -> tuple[str, int] | None:
    """The TFDS set and the pixels a side in the name of a task; None where it is no such name."""
    parts = _parts(name)
    return parts and parts[:2]


def _named(name: str, source: Callable[[str, int], ImageSource], **how: int) -> TaskFamily | None:
    parts = _parts(name)
    if parts is None:
        return None
    dataset, side, model = parts
    return image_family(name, source(dataset, side), model, **how)


def _parts(name: str) -> tuple[str, int, ModelName] | None:
    match = _NAME.fullmatch(name)
    model = match and parse_model(match["model"])
    if not match or not model or int(match["side"]) > LARGEST_SIDE:
        return None
    return match["dataset"], int(match["side"]), model


def _form() -> str:
    return (
        "any TFDS image set goes by DATASET_RxR_MODEL, a MODEL like "
        f"{forms(architectures())}, with an option behind an underscore"
    )


GRAMMAR = Grammar(_form, _family)
