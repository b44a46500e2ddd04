"""One pass over the entries of a tensor: inputs, network and step, as a contract for kernels.

    f = [g, p, m…]                                                     of `mlp`, or
    f = [g, p, m…, v…, m/√v…, 1/√v…, g·row·column…, m·row·column…]     of the Adafactor family
    h = relu(W₁ᵀ f + along rows + along columns + b₁);  h = relu(Wₗᵀ h + bₗ), …;  d, μ = Wᵀ h + b
    step = −a·d·exp(b·μ)

with √v = √(v + 10⁻⁶). Scales of features lie in W₁, what is the same for all entries in b₁, and
what is constant along an axis has gone through the first layer before: so every array of the size
of the tensor is read once, and one is written. `plain` is the reference of every kernel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt.features.groups import MOMENT_EPSILON


class Factors(NamedTuple):
    """What only the Adafactor family has; K momenta, V second moments, U units of the first layer.

    ``second_moments`` [V, b, r, c], V = 1 or K; ``row`` [K, b, r] and ``column`` [K, b, c]: the
    factors of a factored g and m; ``along_rows`` [U, b, r] and ``along_columns`` [U, b, c]: what
    the first layer makes of features that are constant along the other axis.
    """

    second_moments: jax.Array
    row: jax.Array
    column: jax.Array
    along_rows: jax.Array
    along_columns: jax.Array


class NetworkPass(NamedTuple):
    """A tensor as b matrices of r rows and c columns, float32, and the network for it.

    ``gradient``, ``parameter`` [b, r, c]; ``momenta`` [K, b, r, c], this gradient in them;
    ``factors``: of the Adafactor family, or None; ``layers``: (weights [inputs, units], bias
    [units]) each, the last of two units, d and μ; ``multipliers`` [2]: a and b at the top.
    """

    gradient: jax.Array
    parameter: jax.Array
    momenta: jax.Array
    factors: Factors | None
    layers: Sequence[tuple[jax.Array, jax.Array]]
    multipliers: jax.Array


def plain(of: NetworkPass) -> jax.Array:
    """The step of every entry, [b, r, c], by products of whole arrays."""
    gradient, momenta = of.gradient[None], of.momenta
    features = [gradient, of.parameter[None], momenta]
    weights, bias = of.layers[0]
    along: Any = 0.0
    if of.factors is not None:
        second, row, column, along_rows, along_columns = of.factors
        root = jax.lax.rsqrt(second + MOMENT_EPSILON)
        factor = row[..., :, None] * column[..., None, :]
        features += [second, momenta * root, root, gradient * factor, momenta * factor]
        along = along_rows[..., :, None] + along_columns[..., None, :]
    inputs = jnp.concatenate(features)
    units = jnp.tensordot(weights.T, inputs, axes=1) + along + _of_units(bias)
    for weights, bias in of.layers[1:]:
        units = jnp.tensordot(weights.T, jax.nn.relu(units), axes=1) + _of_units(bias)
    d, mu = units
    a, b = of.multipliers
    return -a * d * jnp.exp(b * mu)


def _of_units(bias: jax.Array) -> jax.Array:
    return bias.reshape(-1, 1, 1, 1)
