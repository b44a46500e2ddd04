"""Data that are shipped with the package, with their licences beside the files."""

import gzip
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from tasks.data.cache import read_image_set
from tasks.data.splits import ImageSet
from tasks.data.text import TextSet

FASHION_MNIST_8X8 = Path(__file__).with_name("fashion_mnist_8x8.npz")
SHAKESPEARE = Path(__file__).with_name("shakespeare.txt.gz")
TABLES = Path(__file__).with_name("tables.npz")
SERIES = Path(__file__).with_name("series.npz")


@lru_cache(maxsize=1)
def load_fashion_mnist_8x8() -> ImageSet:
    """All 60,000 training and 10,000 test images, area-averaged from 28×28 (MIT licence)."""
    return read_image_set(FASHION_MNIST_8X8)


@lru_cache(maxsize=1)
def load_shakespeare() -> TextSet:
    """The first 2²⁰ bytes of his works (public domain), as one text."""
    text = np.frombuffer(gzip.decompress(SHAKESPEARE.read_bytes()), np.uint8)
    return TextSet("shakespeare", text, None)


@lru_cache(maxsize=1)
def _tables() -> Mapping[str, np.ndarray]:
    return _arrays(TABLES)


@lru_cache(maxsize=1)
def _series() -> Mapping[str, np.ndarray]:
    return _arrays(SERIES)


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def load_table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [n, d] and targets [n] of a set: int32 classes, or float32 values.

    Raises:
      ValueError: there is no such set.
    """
    names = sorted(key.removesuffix("_input") for key in _tables() if key.endswith("_input"))
    if name not in names:
        raise ValueError(f"no table is named {name!r}; there are {', '.join(names)}")
    return _tables()[f"{name}_input"], _tables()[f"{name}_target"]


def load_series(name: str) -> np.ndarray:
    """The values of a series in the order of time, float32 [n].

    Raises:
      ValueError: there is no such series.
    """
    if name not in _series():
        raise ValueError(f"no series is named {name!r}; there are {', '.join(sorted(_series()))}")
    return _series()[name]
