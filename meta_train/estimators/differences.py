"""What is made of the loss differences of pairs before they are credited.

d = (L⁺ − L⁻)/2;    ĝ = 1/n Σ_pairs transform(d) · score

A transform is a function of d [pairs] and of ``counted``, bool [pairs], the pairs among the n.
Each but `identity` gives up unbiasedness for robustness against rare, large differences. A
divergence rule says what counts where a loss is not finite.
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp

Transform = Callable[[jax.Array, jax.Array], jax.Array]
DivergenceRule = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def identity(differences: jax.Array, counted: jax.Array) -> jax.Array:
    """The differences as they are: the unbiased estimate."""
    del counted
    return differences


def clip(bound: float) -> Transform:
    """Clip d to [−bound, bound], in the unit of the window loss.

    Raises:
      ValueError: the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"`bound`={bound}: loss differences are clipped to a positive bound")
    return lambda differences, counted: jnp.clip(differences, -bound, bound)


def sign(differences: jax.Array, counted: jax.Array) -> jax.Array:
    """Only which member of the pair was better: −1, 0 or 1."""
    del counted
    return jnp.sign(differences)


def normalize(differences: jax.Array, counted: jax.Array) -> jax.Array:
    """Divide d by its spread, √(mean d²) of the pairs that count; zeros stay zero."""
    squares = jnp.where(counted, jnp.square(differences), 0)
    spread = jnp.sqrt(squares.sum() / jnp.maximum(counted.sum(), 1))
    return differences / jnp.where(spread > 0, spread, 1)


def chain(*transforms: Transform) -> Transform:
    """One transform after the other, the first first."""

    def apply(differences: jax.Array, counted: jax.Array) -> jax.Array:
        return reduce(lambda d, transform: transform(d, counted), transforms, differences)

    return apply


def leave_out(losses: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A pair with a window loss [pairs, 2] that is not finite does not count."""
    counted = jnp.isfinite(losses).all(axis=1)
    return jnp.where(counted[:, None], losses, 0), counted


def count_as_worst(losses: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A window loss [pairs, 2] that is not finite counts as the largest finite one.

    The estimate then leads away from divergence; where no loss is finite, no pair counts.
    """
    finite = jnp.isfinite(losses)
    worst = jnp.max(jnp.where(finite, losses, -jnp.inf))
    some = finite.any()
    replaced = jnp.where(finite, losses, jnp.where(some, worst, 0))
    return replaced, jnp.broadcast_to(some, losses.shape[:1])


TRANSFORMS = {"identity": identity, "sign": sign, "normalize": normalize}


def transform_named(name: str) -> Transform:
    """The transform of a command line: a name in `TRANSFORMS`, or "clip:BOUND".

    Raises:
      ValueError: the name is unknown, or the bound is not a positive number.
    """
    if name in TRANSFORMS:
        return TRANSFORMS[name]
    kind, _, bound = name.partition(":")
    try:
        if kind == "clip":
            return clip(float(bound))
    except ValueError:
        pass
    raise ValueError(
        f"`transform`={name!r} is unknown; legal ones: {', '.join(TRANSFORMS)}, and clip:BOUND "
        "with a positive bound"
    )
