"""Fashion-MNIST at 8×8, shipped with the package (MIT licence, beside the file)."""

from functools import lru_cache
from pathlib import Path

from tasks.data.cache import read_image_set
from tasks.data.splits import ImageSet

FASHION_MNIST_8X8 = Path(__file__).with_name("fashion_mnist_8x8.npz")


@lru_cache(maxsize=1)
def load_fashion_mnist_8x8() -> ImageSet:
    """All 60,000 training and 10,000 test images, area-averaged from 28×28."""
    return read_image_set(FASHION_MNIST_8X8)
