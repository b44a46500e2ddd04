"""Area-averaging: the mean of the source under every target pixel."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def _area_weights(source: int, target: int) -> np.ndarray:
    """Share of source pixel j in target pixel i. Shape [target, source], rows sum to 1."""
    edges = np.linspace(0, source, target + 1)
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * (target / source)).astype(np.float32)


def area_average(images: np.ndarray, resolution: int) -> np.ndarray:
    """Square images by area-averaging, rounded to the nearest level.

    Shapes: uint8 [n, height, width, channels] → uint8 [n, resolution, resolution, channels].
    """
    rows = _area_weights(images.shape[1], resolution)
    columns = _area_weights(images.shape[2], resolution)
    means = np.einsum("ih,nhwc,jw->nijc", rows, images.astype(np.float32), columns, optimize=True)
    return np.clip(np.rint(means), 0, 255).astype(np.uint8)
