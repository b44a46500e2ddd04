"""Images as sequences of square patches."""

import haiku as hk
import jax
import jax.numpy as jnp

ACROSS = 4


def patches(images: jax.Array, size: int) -> jax.Array:
    """Squares of ``size`` pixels that do not overlap; zeros fill the last ones up.

    Shapes: [B, h, w, c] → [B, ⌈h/size⌉, ⌈w/size⌉, size · size · c].
    """
    count, height, width, channels = images.shape
    rows, columns = -(-height // size), -(-width // size)
    filling = [(0, 0), (0, rows * size - height), (0, columns * size - width), (0, 0)]
    tiles = jnp.pad(images, filling).reshape(count, rows, size, columns, size, channels)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(count, rows, columns, -1)


def patch_size(side: int, widths: tuple[int, ...]) -> int:
    """The third width, or what makes `ACROSS` patches of a row of the image."""
    return widths[2] if len(widths) > 2 else -(-side // ACROSS)


def tokens(images: jax.Array, size: int, width: int) -> jax.Array:
    """Patches through one linear layer: [B, h, w, c] → [B, tokens, width]."""
    flat = patches(images, size)
    return hk.Linear(width, name="embed")(flat.reshape(flat.shape[0], -1, flat.shape[-1]))
