"""A tensor of a rule as a `NetworkPass`, and its steps by the kernel of the machine's accelerator.

Statistics and scales are made before; the compiler fuses them. Here they go where the pass wants
them: a scale of a feature into its row of the first weight matrix, time into the bias, and what is
constant along an axis through the first layer, once for the axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt.features.groups import ADAFACTOR, MOMENT_EPSILON, Entries, feature_groups
from learned_opt.features.statistics import factored_axes
from learned_opt.kernels import native
from learned_opt.kernels.network_pass import Factors, FullSquares, NetworkPass, plain
from learned_opt.kernels.step_of_tensor import (
    Layers,
    Recipe,
    axes_are_last,
    matrices,
    whole_here,
    with_derivative_of,
)

try:
    from learned_opt.kernels.pallas_pass import WIDEST, in_one_pass
except ImportError:  # the Triton of Pallas is to leave JAX in the end
    WIDEST, in_one_pass = 0, None  # type: ignore[assignment]

OLDEST_CAPABILITY = 8.0
"""Of Nvidia's devices that Triton compiles for."""

MOST_NUMBERS = 2**31
"""In an array that the kernel indexes."""

EXACT = jax.lax.Precision.HIGHEST
"""Of the small products here: accelerators round to fewer bits by default."""

SMALL_GROUPS = ("row", "column", "1/√row", "1/√column")
"""What the factored statistics make; of the others every entry has its own."""


def pass_fits(parameter: jax.Array, decays: int, hidden: Sequence[int]) -> bool:
    """Whether the steps of a tensor with so many momenta are made by the accelerator's kernel.

    As for `kernel_fits`, whole on one device; and on one that the kernel compiles for, with hidden
    layers that it has room for.
    """
    if jax.default_backend() != "gpu" or not 0 < parameter.size * decays < MOST_NUMBERS:
        return False
    if max(hidden) > WIDEST or not axes_are_last(parameter.shape):
        return False
    return whole_here() and why_not() is None


def why_not() -> str | None:
    """Why rules take their plain form on this accelerator; None where it has the kernel."""
    if in_one_pass is None:
        return "this JAX has no Triton"
    capability = str(getattr(jax.local_devices()[0], "compute_capability", ""))
    if capability.startswith("gfx") or float(capability or 0) >= OLDEST_CAPABILITY:
        return native.switched_off()
    return f"a compute capability of {capability or 'no number'}, below {OLDEST_CAPABILITY}"


def momenta_pass(
    recipe: Recipe, layers: Layers, time: jax.Array, inputs: Sequence[Any], scales: Sequence[Any]
) -> jax.Array:
    """The step [*shape] of the rule `mlp`, from its inputs g, p and m, [inputs, *shape] each, and
    their scales.
    """
    (gradient,), (parameter,), momenta = inputs
    rows, bias = _first_layer(layers, {str(i): scale for i, scale in enumerate(scales)}, time)
    shape = matrices(gradient.shape)
    of = NetworkPass(
        gradient.reshape(shape),
        parameter.reshape(shape),
        momenta.reshape(-1, *shape),
        None,
        [(jnp.concatenate(list(rows.values())), bias), *layers[1:]],
        recipe.multipliers(),
    )
    return steps_of(of).reshape(gradient.shape)


def adafactor_pass(
    recipe: Recipe, layers: Layers, time: jax.Array, entries: Entries, scales: Sequence[jax.Array]
) -> jax.Array:
    """The step [*shape] of the rule `adafactor_mlp`; scales in the order of `ADAFACTOR`."""
    (gradient,), (parameter,) = entries.gradient, entries.parameter
    rows, bias = _first_layer(layers, dict(zip(ADAFACTOR, scales, strict=True)), time)
    shape = matrices(gradient.shape)
    second = entries.second_moments.reshape(-1, *shape)
    squares: Factors | FullSquares
    if factored_axes(gradient.shape) is None:
        squares = FullSquares(second, entries.row.reshape(-1, *shape))
        # Row and column are one statistic here: their rows of the weights act as one.
        last = [rows["row"] + rows["column"], rows["1/√row"] + rows["1/√column"]]
    else:
        squares = Factors(second, *_factors(entries, rows))
        last = []
    first = [rows[name] for name in ADAFACTOR if name not in SMALL_GROUPS]
    of = NetworkPass(
        gradient.reshape(shape),
        parameter.reshape(shape),
        entries.momenta.reshape(-1, *shape),
        squares,
        [(jnp.concatenate([*first, *last]), bias), *layers[1:]],
        recipe.multipliers(),
    )
    return steps_of(of).reshape(gradient.shape)


def _first_layer(
    layers: Layers, scales: Mapping[str, jax.Array], time: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Rows of the first weight matrix by group, scaled, and the bias with the time in it."""
    weights, bias = layers[0]
    rows, first = {}, 0
    for name, scale in scales.items():
        rows[name] = weights[first : first + scale.size] * scale.reshape(-1, 1)
        first += scale.size
    return rows, bias + jnp.matmul(time, weights[first:], precision=EXACT)


def _factors(entries: Entries, rows: Mapping[str, jax.Array]) -> list[jax.Array]:
    """The last four of `Factors`.

    The statistic named row is constant along the largest axis; that may be the last or not.
    """
    shape = entries.gradient.shape[1:]
    axes = factored_axes(shape)
    assert axes is not None
    groups = feature_groups(entries, MOMENT_EPSILON)
    by_row, by_column = entries.gradient_factors

    def through_first_layer(*names: str) -> jax.Array:
        weights = jnp.concatenate([rows[name] for name in names])
        inputs = jnp.concatenate([groups[name] for name in names])
        return jnp.tensordot(weights.T, inputs, axes=1, precision=EXACT)

    lines = [
        x.reshape(len(x), matrices(shape)[0], -1)
        for x in (
            by_row,
            by_column,
            through_first_layer("row", "1/√row"),
            through_first_layer("column", "1/√column"),
        )
    ]
    return lines if axes[1] == len(shape) - 1 else [lines[i] for i in (1, 0, 3, 2)]


def _by_platform(of: NetworkPass) -> jax.Array:
    """By the kernel where the program is compiled for an accelerator that has it."""
    return jax.lax.platform_dependent(of, cuda=in_one_pass, rocm=in_one_pass, default=plain)


steps_of = with_derivative_of(plain, _by_platform)
