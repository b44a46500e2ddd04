"""Episodes that grow longer: the upper bound of their length at update k.

    b_k = W · round(b_0/W · (T/b_0)^(k/K)),  k < K;    b_k = T,  k ≥ K

with W the window, b_0 ``length_start``, T ``length_max`` and K ``length_updates``. Lengths are
log-uniform between ``length_min``, or b_k where that is less, and b_k. An episode keeps the length
that it was begun with.
"""

import jax
import jax.numpy as jnp

from meta_train.config import MetaTrainConfig
from meta_train.estimators.base import Length
from meta_train.estimators.episodes import log_uniform


def episode_length(config: MetaTrainConfig, update: jax.Array) -> Length:
    """The length of the episodes that begin in an update, an int32 that may be traced."""
    if config.length_updates:
        bound = length_bound(config, update)
        return log_uniform(jnp.minimum(config.length_min, bound), bound)
    if config.length_max > config.length_min:
        return log_uniform(config.length_min, config.length_max)
    return config.length_min


def length_bound(config: MetaTrainConfig, update: jax.Array) -> jax.Array:
    """b_k at the top, int32."""
    done = jnp.minimum(update / config.length_updates, 1)
    windows = config.length_start / config.window
    growth = (config.length_max / config.length_start) ** done
    bound = config.window * jnp.round(windows * growth).astype(jnp.int32)
    return jnp.where(update >= config.length_updates, config.length_max, bound)


def shortest_episode(config: MetaTrainConfig) -> int:
    """The least length that an episode of the run can have."""
    return min(config.length_min, config.length_start or config.length_min)
