"""Episodes of pairs: they begin and end at window boundaries, at staggered times."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators.base import Length
from meta_train.problem import NEVER


class Episodes(NamedTuple):
    """Inner steps done, inner steps in all, and episodes begun so far: int32 [pairs] each."""

    age: jax.Array
    length: jax.Array
    begun: jax.Array


def no_episodes(pairs: int) -> Episodes:
    """Every pair is about to begin its first episode."""
    return Episodes(*(jnp.zeros(pairs, jnp.int32) for _ in Episodes._fields))


def log_uniform(low: int | jax.Array, high: int | jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Episode lengths T with log T uniform in [log low, log high], both ends included."""
    log = jnp.log if isinstance(high, jax.Array) else np.log

    def draw(key: jax.Array) -> jax.Array:
        exponent = jax.random.uniform(key, (), minval=log(low), maxval=log(high))
        return jnp.clip(jnp.round(jnp.exp(exponent)).astype(jnp.int32), low, high)

    return draw


def end_window(episodes: Episodes, window: int, finite: jax.Array) -> Episodes:
    """The episodes a window later; those that are not ``finite``, bool [pairs], end with it."""
    age = episodes.age + window
    return episodes._replace(age=age, length=jnp.where(finite, episodes.length, age))


def begin_episodes(
    keys: jax.Array, episodes: Episodes, *, length: Length, window: int, stagger: bool
) -> tuple[jax.Array, Episodes]:
    """Begin a new episode for every pair whose episode has ended.

    With ``stagger`` the first episode of pair i of n is cut to (i+1)/n of its length, so
    that the pairs cover all ages from then on. Lengths are rounded up to whole windows.

    Shapes: keys [pairs] → restart, bool [pairs]; the episodes at the start of the window.
    """
    pairs = episodes.age.shape[0]
    restart = episodes.age >= episodes.length
    if callable(length):
        drawn = jax.vmap(length)(keys)
        if not jnp.issubdtype(drawn.dtype, jnp.integer) or drawn.ndim != 1:
            raise ValueError(
                f"`length` returned {drawn.dtype}{list(drawn.shape[1:])} for a key; it must return "
                "an integer, the inner steps of an episode"
            )
        drawn = jnp.maximum(drawn.astype(jnp.int32), 1)
    else:
        drawn = jnp.full(pairs, NEVER if length is None else length, jnp.int32)
    if length is not None:
        windows = -(-drawn // window)
        if stagger:  # in whole numbers: a rounding error would cost a window
            place = jnp.arange(1, pairs + 1)
            whole, rest = windows // pairs, windows % pairs  # the product may overflow
            cut = whole * place - (-rest * place // pairs)
            windows = jnp.where(episodes.begun == 0, cut, windows)
        drawn = windows * window
    return restart, Episodes(
        age=jnp.where(restart, 0, episodes.age),
        length=jnp.where(restart, drawn, episodes.length),
        begun=episodes.begun + restart,
    )
