"""The scales of groups of features, by identities that read a tensor once.

The plain form makes every feature f and takes (mean of f² + ε)^{−1/2}. On CPU that writes most of
28 arrays of the size of the tensor to memory. Here every mean square of a large tensor is one of
the sums, over the last axis, of a single pass:

    f = m/√v            Σ m²·w                with w = (1/√v)²
    f = m·r·c           r² · Σ m²·c²          the factor r being constant along the axis

and what is constant along an axis has the same mean there whatever the extent.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.blocks import splitting_pays
from learned_opt.features.groups import CLIP, Entries, feature_groups, inverse_root
from learned_opt.features.normalization import inverse_rms_over

LONGEST_SUM = 4_096
"""Numbers that are added one after the other; more would show in float32."""

_IN_ONE_PASS = frozenset(
    ("g", "clipped g", "p", "m", "v", "m/√v", "1/√v", "g/√v", "factored g", "factored m")
)


def scales_of_tensor(
    entries: Entries, names: Sequence[str], *, moment_epsilon: float, epsilon: float
) -> list[jax.Array]:
    """`inverse_rms` of every group: [inputs, 1, …] each, in the order of the names.

    ``moment_epsilon`` is added to v under its root, as in `feature_groups`.
    """
    axes = range(1, entries.gradient.ndim)
    return _scales(entries, names, moment_epsilon, epsilon, axes)


def scales_of_matrices(
    entries: Entries, names: Sequence[str], *, moment_epsilon: float, epsilon: float
) -> list[jax.Array]:
    """`inverse_rms_of_matrices` of every group, of the entries' rank, in the order of the names."""
    axes = range(1, entries.gradient.ndim)[-2:]
    return _scales(entries, names, moment_epsilon, epsilon, axes)


def _scales(
    entries: Entries,
    names: Sequence[str],
    moment_epsilon: float,
    epsilon: float,
    axes: Sequence[int],
) -> list[jax.Array]:
    groups = feature_groups(entries, moment_epsilon)
    shape = entries.gradient.shape[1:]
    if len(shape) < 2 or shape[-1] > LONGEST_SUM or not splitting_pays(entries, shape):
        return [inverse_rms_over(groups[name], axes, epsilon) for name in names]
    together = [name for name in names if name in _IN_ONE_PASS]
    squares = _mean_squares(entries, together, moment_epsilon, axes)
    return [
        jax.lax.rsqrt(squares[name] + epsilon)
        if name in squares
        else inverse_rms_over(groups[name], axes, epsilon)
        for name in names
    ]


def _mean_squares(
    entries: Entries, names: Sequence[str], moment_epsilon: float, axes: Sequence[int]
) -> dict[str, jax.Array]:
    """The mean over ``axes`` of every group's squares, [inputs, *extents with 1 for the axes]."""
    weights = jnp.square(inverse_root(entries.second_moments, moment_epsilon))
    gradient, momenta = jnp.square(entries.gradient), jnp.square(entries.momenta)
    gradient_inside, gradient_outside = _squares(entries.gradient_factors)
    momenta_inside, momenta_outside = _squares(entries.momentum_factors)
    summed = {
        "g": gradient,
        "clipped g": jnp.square(jnp.clip(entries.gradient, -CLIP, CLIP)),
        "p": jnp.square(entries.parameter),
        "m": momenta,
        "v": jnp.square(entries.second_moments),
        "m/√v": momenta * weights,
        "1/√v": weights,
        "g/√v": gradient * weights,
        "factored g": gradient * gradient_inside,
        "factored m": momenta * momenta_inside,
    }
    outside = {"factored g": gradient_outside, "factored m": momenta_outside}
    rows = [row for name in names for row in summed[name]]
    sums = iter(sums_over_last(*rows))
    count = math.prod(entries.gradient.shape[axis] for axis in axes)
    means = {}
    for name in names:
        of_rows = jnp.stack([next(sums) for _ in summed[name]])[..., None]
        total = jnp.sum(of_rows * outside.get(name, np.float32(1)), tuple(axes), keepdims=True)
        means[name] = total / count
    return means


def _squares(factors: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The squares of factors that change along the last axis, and of those that do not."""
    one = jnp.float32(1)
    inside = [jnp.square(factor) for factor in factors if factor.shape[-1] > 1]
    outside = [jnp.square(factor) for factor in factors if factor.shape[-1] == 1]
    return math.prod(inside, start=one), math.prod(outside, start=one)


@jax.custom_jvp
def sums_over_last(*terms: jax.Array) -> list[jax.Array]:
    """The sum over the last axis of arrays of one shape, all in one loop over memory."""
    zeros = [jnp.zeros((), terms[0].dtype)] * len(terms)
    add = partial(jax.tree.map, jnp.add)
    return list(jax.lax.reduce(list(terms), zeros, add, [terms[0].ndim - 1]))


@sums_over_last.defjvp
def _derivative(
    terms: Sequence[jax.Array], tangents: Sequence[jax.Array]
) -> tuple[list[jax.Array], list[jax.Array]]:
    # A reduction of several arrays has no derivative of its own.
    return sums_over_last(*terms), [jnp.sum(tangent, axis=-1) for tangent in tangents]
