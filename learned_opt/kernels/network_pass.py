"""One pass over the entries of a tensor: inputs, network and step, as a contract for kernels.

    f = [g, p, m…]                                                     of `mlp`;
    f = [g, p, m…, v…, m/√v…, 1/√v…, g·row·column…, m·row·column…]     of the Adafactor family;
    f = [g, p, m…, v…, m/√v…, 1/√v…, g·r(V)…, m/√V…, V…, 1/√V…]        of it below rank 2
    h = relu(W₁ᵀ f + along rows + along columns + b₁);  h = relu(Wₗᵀ h + bₗ), …;  d, μ = Wᵀ h + b
    step = −a·d·exp(b·μ)

with √v = √(v + 10⁻⁶) and the others as in `learned_opt.features.groups`. Scales of features lie in
W₁, what is the same for all entries in b₁, and what is constant along an axis has gone through the
first layer before: so every array of the size of the tensor is read once, and one is written.
`plain` is the reference of every kernel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt.features.groups import (
    FACTORED_EPSILON,
    MOMENT_EPSILON,
    STATISTIC_EPSILON,
    bounded_rsqrt,
    inverse_root,
)


class Factors(NamedTuple):
    """What the Adafactor family has of matrices; K momenta, V second moments, U first units.

    ``second_moments`` [V, b, r, c], V = 1 or K; ``row`` [K, b, r] and ``column`` [K, b, c]: the
    factors of a factored g and m; ``along_rows`` [U, b, r] and ``along_columns`` [U, b, c]: what
    the first layer makes of features that are constant along the other axis.
    """

    second_moments: jax.Array
    row: jax.Array
    column: jax.Array
    along_rows: jax.Array
    along_columns: jax.Array


class FullSquares(NamedTuple):
    """What it has below rank 2: ``second_moments`` and ``full``, V, of every entry."""

    second_moments: jax.Array
    full: jax.Array


class NetworkPass(NamedTuple):
    """A tensor as b matrices of r rows and c columns, float32, and the network for it.

    ``gradient``, ``parameter`` [b, r, c]; ``momenta`` [K, b, r, c], this gradient in them;
    ``squares``: of the Adafactor family, or None; ``layers``: (weights [inputs, units], bias
    [units]) each, the last of two units, d and μ; ``multipliers`` [2]: a and b at the top.
    """

    gradient: jax.Array
    parameter: jax.Array
    momenta: jax.Array
    squares: Factors | FullSquares | None
    layers: Sequence[tuple[jax.Array, jax.Array]]
    multipliers: jax.Array


class Entries(NamedTuple):
    """What features of some entries are made of: arrays of one shape, one for every decay.

    ``factors`` or ``full`` are empty where the tensor has none.
    """

    gradient: jax.Array
    parameter: jax.Array
    momenta: Sequence[jax.Array]
    second_moments: Sequence[jax.Array] = ()
    factors: Sequence[jax.Array] = ()
    full: Sequence[jax.Array] = ()


def features(of: Entries) -> list[jax.Array]:
    """The inputs f at the top of this file, an array for each."""
    gradient, parameter, momenta, second, factors, full = of
    if not second:
        return [gradient, parameter, *momenta]
    roots = [inverse_root(v, MOMENT_EPSILON) for v in second]
    for_momenta = roots if len(roots) > 1 else roots * len(momenta)
    return [
        gradient,
        parameter,
        *momenta,
        *second,
        *(m * root for m, root in zip(momenta, for_momenta, strict=True)),
        *roots,
        *(gradient * factor for factor in factors),
        *(gradient * bounded_rsqrt(v + FACTORED_EPSILON) for v in full),
        *(m * factor for m, factor in zip(momenta, factors, strict=False)),
        *(m * inverse_root(v, MOMENT_EPSILON) for m, v in zip(momenta, full, strict=False)),
        *full,
        *(inverse_root(v, STATISTIC_EPSILON) for v in full),
    ]


def plain(of: NetworkPass) -> jax.Array:
    """The step of every entry, [b, r, c], by products of whole arrays."""
    entries = Entries(of.gradient, of.parameter, list(of.momenta))
    along: Any = 0.0
    if isinstance(of.squares, FullSquares):
        second, full = of.squares
        entries = entries._replace(second_moments=list(second), full=list(full))
    elif of.squares is not None:
        second, row, column, along_rows, along_columns = of.squares
        factors = row[..., :, None] * column[..., None, :]
        entries = entries._replace(second_moments=list(second), factors=list(factors))
        along = along_rows[..., :, None] + along_columns[..., None, :]
    weights, bias = of.layers[0]
    inputs = jnp.stack(features(entries))
    units = jnp.tensordot(weights.T, inputs, axes=1) + along + _of_units(bias)
    for weights, bias in of.layers[1:]:
        units = jnp.tensordot(weights.T, jax.nn.relu(units), axes=1) + _of_units(bias)
    d, mu = units
    a, b = of.multipliers
    return -a * d * jnp.exp(b * mu)


def _of_units(bias: jax.Array) -> jax.Array:
    return bias.reshape(-1, 1, 1, 1)
