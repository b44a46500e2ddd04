"""Running statistics of the gradient of one tensor: momenta, second moments, factored ones.

    m ← βm + (1−β)g        v ← βv + (1−β)g²        V ← βV + (1−β)(g² + 10⁻³⁰)

from zero and without bias correction, for every decay β. Of a tensor of rank 2 and more, V is kept
as its means over the largest axis (row) and over the second largest (column): Adafactor (Shazeer
and Stern 2018, https://arxiv.org/abs/1804.04235). Below rank 2 it is kept in full.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.tensors import round_to, zeros_beside

SMALLEST_SQUARE = 1e-30


class FactoredMoments(NamedTuple):
    """``row`` [decays, *shape] with extent 1 on the largest axis, ``column`` on the second."""

    row: jax.Array
    column: jax.Array


class FullMoments(NamedTuple):
    """``full`` [decays, *shape]: V of a tensor of rank 0 or 1."""

    full: jax.Array


class Statistics(NamedTuple):
    """The state of one tensor: ``momenta`` and ``second_moments`` [decays, *shape]."""

    momenta: jax.Array
    second_moments: jax.Array
    squares: FactoredMoments | FullMoments


class Decays(NamedTuple):
    """β of each statistic: sequences, or arrays [decays] where they are meta-learned."""

    momentum: Any
    second_moment: Any
    factored: Any


def factored_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """(d1, d0): the second largest axis and the largest, the later of equals; or None."""
    if len(shape) < 2:
        return None
    order = np.argsort(shape, kind="stable")
    return int(order[-2]), int(order[-1])


def init_momenta(parameter: jax.Array, decays: int, dtype: str) -> jax.Array:
    """Momenta before the first step. Shape [decays, *shape]."""
    return zeros_beside(parameter, decays, dtype)


def init_statistics(parameter: jax.Array, decays: Decays, dtype: str) -> Statistics:
    """All statistics of a tensor before the first step; of ``decays`` only the lengths count."""
    momentum, second, factored = map(len, decays)
    axes = factored_axes(parameter.shape)
    squares: FactoredMoments | FullMoments
    if axes is None:
        squares = FullMoments(zeros_beside(parameter, factored, dtype))
    else:
        d1, d0 = axes
        squares = FactoredMoments(
            zeros_beside(parameter, factored, dtype, reduced=d0),
            zeros_beside(parameter, factored, dtype, reduced=d1),
        )
    return Statistics(
        zeros_beside(parameter, momentum, dtype), zeros_beside(parameter, second, dtype), squares
    )


def running_mean(before: jax.Array, value: jax.Array, decays: Any) -> jax.Array:
    """βx + (1−β)·value for every β, in float32. Shapes: [decays, *extent], [*extent]."""
    beta = jnp.asarray(decays, jnp.float32).reshape(-1, *[1] * value.ndim)
    return beta * before.astype(jnp.float32) + (1 - beta) * value[None]


def update_statistics(before: Statistics, gradient: jax.Array, decays: Decays) -> Statistics:
    """The statistics with one more gradient, in float32."""
    square = jnp.square(gradient)
    axes = factored_axes(gradient.shape)
    squares: FactoredMoments | FullMoments
    if axes is None:
        assert isinstance(before.squares, FullMoments)
        full = running_mean(before.squares.full, square + SMALLEST_SQUARE, decays.factored)
        squares = FullMoments(full)
    else:
        assert isinstance(before.squares, FactoredMoments)
        d1, d0 = axes
        over_d0, over_d1 = (
            jnp.mean(square, axis=axis, keepdims=True) + SMALLEST_SQUARE for axis in (d0, d1)
        )
        squares = FactoredMoments(
            running_mean(before.squares.row, over_d0, decays.factored),
            running_mean(before.squares.column, over_d1, decays.factored),
        )
    return Statistics(
        running_mean(before.momenta, gradient, decays.momentum),
        running_mean(before.second_moments, square, decays.second_moment),
        squares,
    )


def stored(statistics: Statistics, dtype: str, step: jax.Array) -> Statistics:
    """The statistics as they are kept between two steps."""
    return jax.tree.map(lambda x: round_to(x, dtype, step), statistics)
