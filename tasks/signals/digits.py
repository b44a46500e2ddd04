"""Spoken-digit-like maps: two formants that move, told from their energies over time.

A class is a pair of tracks, each from one band to another; pitch shifts both, tempo bends time, and
the energy of a band is a bump around each formant.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Batch

FRAMES, BANDS, CLASSES = 12, 16, 10
SHIFT, TEMPO, WIDTH = 1.0, 0.3, 1.2
NOISE = 0.3

TRACKS = np.array(
    [
        [[2, 5], [9, 12]],
        [[5, 2], [12, 9]],
        [[2, 2], [12, 7]],
        [[6, 6], [9, 13]],
        [[3, 6], [13, 8]],
        [[6, 3], [8, 8]],
        [[4, 4], [13, 13]],
        [[2, 6], [8, 8]],
        [[6, 2], [13, 13]],
        [[4, 4], [9, 9]],
    ],
    np.float32,
)
"""[CLASSES, formant, start and end], in bands."""


def draw_digits(key: jax.Array, count: int, noise: jax.Array | float = NOISE) -> Batch:
    """``count`` maps of log-energies: input [count, FRAMES, BANDS], label [count]."""
    keys = jax.random.split(key, 4)
    label = jax.random.randint(keys[0], (count,), 0, CLASSES)
    shift = SHIFT * jax.random.normal(keys[1], (count, 1, 1))
    bend = jnp.exp(TEMPO * jax.random.normal(keys[2], (count, 1, 1)))
    time = jnp.linspace(0, 1, FRAMES)[None, None] ** bend
    tracks = jnp.asarray(TRACKS)[label]
    formants = tracks[..., :1] + time * (tracks[..., 1:] - tracks[..., :1]) + shift
    bands = jnp.arange(BANDS, dtype=jnp.float32)[None, None, None]
    bumps = jnp.exp(-0.5 * jnp.square((bands - formants[..., None]) / WIDTH))
    heard = 2 * bumps.sum(axis=1) - 0.5
    disturbed = heard + noise * jax.random.normal(keys[3], heard.shape)
    return {"input": disturbed, "label": label}
