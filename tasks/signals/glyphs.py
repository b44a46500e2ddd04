"""Ten shapes in one dimension, distorted at random.

After MNIST-1D, Greydanus 2020, arXiv:2011.14439.

A glyph of 12 points is stretched, sheared, scaled and put at a random place among 40, and a noise
that is correlated over three places is added.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Batch

LENGTH, POINTS, CLASSES = 40, 12, 10
STRETCHES, SCALES, SHEAR = (14.0, 24.0), (0.7, 1.4), 0.5
NOISE = 0.25
SMOOTH = (0.25, 0.5, 0.25)

_t = np.linspace(0, 1, POINTS)
GLYPHS = np.stack(
    [
        np.sin(np.pi * _t),
        np.sin(2 * np.pi * _t),
        -np.sin(np.pi * _t),
        np.sin(3 * np.pi * _t),
        2 * _t - 1,
        1 - 2 * _t,
        np.where(_t < 0.5, 1.0, -1.0),
        np.abs(4 * _t - 2) - 1,
        np.where(np.abs(_t - 0.5) < 0.2, 1.0, -0.5),
        np.cos(4 * np.pi * _t),
    ]
).astype(np.float32)
"""[CLASSES, POINTS]."""


def draw_glyphs(key: jax.Array, count: int, noise: jax.Array | float = NOISE) -> Batch:
    """``count`` signals: input [count, LENGTH], label [count]."""
    keys = jax.random.split(key, 6)
    label = jax.random.randint(keys[0], (count,), 0, CLASSES)
    stretch = _between(keys[1], count, STRETCHES)
    start = jax.random.uniform(keys[2], (count,)) * (LENGTH - stretch)
    at = (jnp.arange(LENGTH, dtype=jnp.float32)[None] - start[:, None]) / stretch[:, None]
    place = jnp.clip(at, 0, 1) * (POINTS - 1)
    left = jnp.minimum(place.astype(jnp.int32), POINTS - 2)
    glyphs = jnp.asarray(GLYPHS)
    lower, upper = glyphs[label[:, None], left], glyphs[label[:, None], left + 1]
    shape = lower + (place - left) * (upper - lower)
    inside = (at >= 0) & (at <= 1)
    shear = SHEAR * jax.random.uniform(keys[3], (count, 1), minval=-1.0) * (at - 0.5)
    scaled = _between(keys[4], count, SCALES)[:, None] * (shape + shear)
    white = jax.random.normal(keys[5], (count, LENGTH + 2))
    smooth = sum(w * white[:, i : i + LENGTH] for i, w in enumerate(SMOOTH))
    return {"input": jnp.where(inside, scaled, 0.0) + noise * smooth, "label": label}


def _between(key: jax.Array, count: int, bounds: tuple[float, float]) -> jax.Array:
    return jax.random.uniform(key, (count,), minval=bounds[0], maxval=bounds[1])
