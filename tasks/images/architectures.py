"""Models of images by name: ``ARCHITECTUREwidths_option``, such as ``mlp32x32_tanh``."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import jax

from tasks.architectures import Architecture, ModelName, collected, parse
from tasks.base import Batch, Configuration, Metrics

__all__ = [
    "Architecture",
    "ImageFacts",
    "ImageModel",
    "ModelName",
    "architectures",
    "parse_model",
]

MODULES = (
    "perceptrons",
    "convolutions",
    "convolutional_autoencoders",
    "residual",
    "transformers",
    "mixers",
    "experts",
    "variational",
    "matching",
    "contrastive",
)
"""Modules of `tasks.images` with a table ``ARCHITECTURES`` {name: Architecture}.

``make(facts, widths, option)`` of a row is an `ImageModel`.
"""


class ImageFacts(NamedTuple):
    """What a model is made for: images [side, side, channels] of so many classes."""

    side: int
    channels: int
    classes: int


class ImageModel(NamedTuple):
    """``loss(cfg, batch) -> (scalar, metrics)`` makes Haiku modules, on standardised images;
    ``sample(key) -> cfg`` draws what can be traced; the rest is as in `TaskMetadata`.
    """

    loss: Callable[[Configuration, Batch], tuple[jax.Array, Metrics]]
    initial_loss: float
    activation: str
    domain: str = "image classification"
    sample: Callable[[jax.Array], Configuration] = lambda key: {}


@lru_cache(maxsize=1)
def architectures() -> Mapping[str, Architecture]:
    """All of them by name."""
    return collected([f"tasks.images.{module}" for module in MODULES])


def parse_model(text: str) -> ModelName | None:
    """The parts of a model's name; None where there is no such model."""
    return parse(text, architectures())
