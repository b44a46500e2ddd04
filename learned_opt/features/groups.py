"""The features of the Adafactor family, by name: Metz et al. 2022 (https://arxiv.org/abs/2203.11860)
and Moudgil et al. 2025 (https://arxiv.org/abs/2501.12670).

With r(x) = max(x, 10⁻⁹)^{−1/2}, and the factors of a tensor from its row and column statistics

    factor = r(row / (mean of row over d1 + 10⁻⁹)) · r(column)

a factored g is g·factor and a factored m is m·factor. Below rank 2, with the full statistic V, a
factored g is g·r(V + 10⁻⁹) and a factored m is m·(V + 10⁻⁶)^{−1/2}; V stands for row and column.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt.constants import check_decays, short
from learned_opt.features.statistics import Decays, FullMoments, Statistics, factored_axes

FACTORED_EPSILON = 1e-9
MOMENT_EPSILON = 1e-6
STATISTIC_EPSILON = 1e-8
CLIP = 0.1

ADAFACTOR = (
    "g", "p", "m", "v", "m/√v", "1/√v", "factored g", "row", "column", "1/√row", "1/√column",
    "factored m",
)  # fmt: skip
"""28 inputs with three decays of m, one of v and three of the factored statistics."""

CELO = (
    "g", "clipped g", "p", "m", "v", "m/√v", "1/√v", "factored g", "g/√v", "row", "column",
    "1/√row", "1/√column", "factored m",
)  # fmt: skip
"""30 inputs; the first nine groups are those that do not read the factored statistics."""

WITHOUT_ROWS = CELO[:9]


def check_group_decays(decays: Decays) -> None:
    """Raise ValueError for decays that the groups cannot be made with."""
    check_decays(
        momentum_decays=decays.momentum,
        second_moment_decays=decays.second_moment,
        factored_decays=decays.factored,
    )
    momenta, second, factored = map(len, decays)
    if factored != momenta:
        raise ValueError(
            f"`factored_decays`={short(decays.factored)}: there must be as many as "
            f"`momentum_decays`, {momenta}: each factors a momentum"
        )
    if second not in (1, momenta):
        raise ValueError(
            f"`second_moment_decays`={short(decays.second_moment)}: there must be one, or as many "
            f"as `momentum_decays`, {momenta}: each is the root that a momentum is divided by"
        )


def group_sizes(decays: Decays) -> Mapping[str, int]:
    """Inputs of every group."""
    momenta, second_moments, factored = map(len, decays)
    return {
        "g": 1,
        "clipped g": 1,
        "p": 1,
        "m": momenta,
        "v": second_moments,
        "m/√v": momenta,
        "1/√v": second_moments,
        "factored g": factored,
        "g/√v": second_moments,
        "row": factored,
        "column": factored,
        "1/√row": factored,
        "1/√column": factored,
        "factored m": factored,
    }


class Entries(NamedTuple):
    """All that the features of an entry are made of: [decays, *extent], or [1, …] for one.

    ``row``, ``column``: the factored statistics; ``gradient_factors``, ``momentum_factors``:
    what a factored g and a factored m are products with.
    """

    gradient: jax.Array
    parameter: jax.Array
    momenta: jax.Array
    second_moments: jax.Array
    row: jax.Array
    column: jax.Array
    gradient_factors: tuple[jax.Array, ...]
    momentum_factors: tuple[jax.Array, ...]


def entries_of(gradient: jax.Array, parameter: jax.Array, statistics: Statistics) -> Entries:
    """From one tensor, float32 [*shape] each, and its statistics with the gradient in them."""
    momenta, second, squares = statistics
    if isinstance(squares, FullMoments):
        full = squares.full
        of_gradient: tuple[jax.Array, ...] = (bounded_rsqrt(full + FACTORED_EPSILON),)
        of_momenta: tuple[jax.Array, ...] = (jax.lax.rsqrt(full + MOMENT_EPSILON),)
        row = column = full
    else:
        row, column = squares
        axes = factored_axes(gradient.shape)
        assert axes is not None
        mean = jnp.mean(row, axis=1 + axes[0], keepdims=True)
        of_gradient = (bounded_rsqrt(row / (mean + FACTORED_EPSILON)), bounded_rsqrt(column))
        of_momenta = of_gradient
    return Entries(
        gradient[None], parameter[None], momenta, second, row, column, of_gradient, of_momenta
    )


def feature_groups(entries: Entries, epsilon: float) -> dict[str, jax.Array]:
    """Every group of this module, [inputs, *extent] each; ``epsilon`` is added to v under its root.

    Each entry's features are functions of that entry alone.
    """
    root = inverse_root(entries.second_moments, epsilon)
    return {
        "g": entries.gradient,
        "clipped g": jnp.clip(entries.gradient, -CLIP, CLIP),
        "p": entries.parameter,
        "m": entries.momenta,
        "v": entries.second_moments,
        "m/√v": entries.momenta * root,
        "1/√v": root,
        "g/√v": entries.gradient * root,
        "factored g": math.prod(entries.gradient_factors, start=entries.gradient),
        "factored m": math.prod(entries.momentum_factors, start=entries.momenta),
        "row": entries.row,
        "column": entries.column,
        "1/√row": jax.lax.rsqrt(entries.row + STATISTIC_EPSILON),
        "1/√column": jax.lax.rsqrt(entries.column + STATISTIC_EPSILON),
    }


def inverse_root(second_moments: jax.Array, epsilon: float) -> jax.Array:
    """(v + ε)^{−1/2}."""
    return jax.lax.rsqrt(second_moments + epsilon)


def bounded_rsqrt(x: jax.Array) -> jax.Array:
    """r(x) at the top of this file."""
    return jax.lax.rsqrt(jnp.maximum(x, FACTORED_EPSILON))


def input_names(names: Sequence[str], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """A name for every input of the network, "m[0]" say: the feature schema of a rule."""
    return tuple(
        f"{name}[{i}]" if sizes[name] > 1 else name for name in names for i in range(sizes[name])
    )
