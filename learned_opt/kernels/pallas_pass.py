"""The pass of `network_pass` as one kernel for graphics processors, in Pallas by Triton.

A program takes a block of entries in their order in memory: it reads each of their arrays once,
makes their features in registers, sends them through the network, and writes their steps. Weights
are small and read whole by every program; what lies along rows and columns is gathered.

* The first layer is a sum of outer products in float32, since its inputs are single arrays.
* Layers between are matrix products, their widths padded to what the units for them take.
  They are exact to float32, or as `jax.default_matmul_precision` says where it says something:
  "tensorfloat32" or "BF16_BF16_F32" take the tensor cores, "TF32_TF32_F32_X3" does in three
  products what is close to float32.
* A narrow network is written out unit by unit: it is bound by memory.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from learned_opt.kernels.network_pass import (
    Entries,
    Factors,
    FullSquares,
    NetworkPass,
    features,
)
from learned_opt.network import is_narrow

BLOCK, NARROW_BLOCK = 128, 512
"""Entries of a program: 128 rows of a product for four warps, or 16 bytes for every thread."""

NARROWEST_PRODUCT = 16
"""The least extent of a matrix product; and all extents are powers of two."""

WIDEST = 32
"""Units of a layer: with 64 and exact products Triton keeps kilobytes of a thread in memory."""

WARPS = 4
EXACT = jax.lax.Precision.HIGHEST
PRECISION = "jax_default_matmul_precision"


class _Flat(NamedTuple):
    """A `NetworkPass` as the kernel reads it: arrays of all entries in one dimension, decay after
    decay; of b·r rows and b·c columns the factors [K, …] and the first layer's share [units, …]
    ([…, units] for products).
    """

    gradient: Any
    parameter: Any
    momenta: Any
    squares: Factors | FullSquares | None
    layers: Sequence[tuple[Any, Any]]
    multipliers: Any


def in_one_pass(of: NetworkPass) -> jax.Array:
    """The step of every entry, [b, r, c], as `network_pass.plain` makes it; one entry at least."""
    narrow = is_narrow([weights.shape[1] for weights, _ in of.layers[:-1]])
    block = NARROW_BLOCK if narrow else BLOCK
    flat = _varying_alike(_flat(of, narrow))
    entries = of.gradient.size
    step = jax.ShapeDtypeStruct(
        (entries,), jnp.float32, manual_axis_type=jax.typeof(flat.gradient).manual_axis_type
    )
    kernel = partial(
        _kernel,
        shape=of.gradient.shape,
        block=block,
        network=_written_out if narrow else _as_products,
    )
    return pl.pallas_call(
        kernel,
        grid=(pl.cdiv(entries, block),),
        out_shape=step,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        name="learned_opt_network_pass",
    )(flat).reshape(of.gradient.shape)


def _flat(of: NetworkPass, narrow: bool) -> _Flat:
    """Arrays, weights and what has units in the layout that the form of the network reads."""
    layers = of.layers if narrow else _padded(of.layers)
    squares: Any = of.squares
    if isinstance(squares, FullSquares):
        squares = FullSquares(*(x.reshape(-1) for x in squares))
    elif isinstance(squares, Factors):
        second, *of_lines = squares
        row, column, *along = (x.reshape(len(x), -1) for x in of_lines)
        if not narrow:
            along = [_pad(x.T, (x.shape[1], layers[0][1].size)) for x in along]
        squares = Factors(second.reshape(-1), row, column, *along)
    gradient, parameter, momenta = (x.reshape(-1) for x in of[:3])
    return _Flat(gradient, parameter, momenta, squares, layers, of.multipliers)


def _varying_alike(arrays: Any) -> Any:
    """Arrays that vary over the axes of `jax.shard_map` that any of them varies over."""

    def axes(x: jax.Array) -> frozenset[str]:
        return jax.typeof(x).manual_axis_type.varying

    every = frozenset().union(*map(axes, jax.tree.leaves(arrays)))

    def vary(x: jax.Array) -> jax.Array:
        missing = every - axes(x)
        return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x

    return jax.tree.map(vary, arrays)


def _padded(layers: Sequence[tuple[jax.Array, jax.Array]]) -> list[tuple[jax.Array, jax.Array]]:
    """Zeros for units that are not there; the last layer as [2, units] of its inputs."""
    *hidden, (last, last_bias) = layers
    padded, inputs = [], hidden[0][0].shape[0]
    for weights, bias in hidden:
        units = max(NARROWEST_PRODUCT, pl.next_power_of_2(weights.shape[1]))
        padded.append((_pad(weights, (inputs, units)), _pad(bias, (units,))))
        inputs = units
    return [*padded, (_pad(last.T, (2, inputs)), last_bias)]


def _pad(x: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jnp.pad(x, [(0, extent - own) for extent, own in zip(shape, x.shape, strict=True)])


def _kernel(of: _Flat, step: Any, *, shape: Sequence[int], block: int, network: Any) -> None:
    entries = shape[0] * shape[1] * shape[2]
    first = pl.program_id(0) * block
    place = first + jnp.arange(block, dtype=jnp.int32)
    valid = place < entries
    place = jnp.minimum(place, entries - 1)

    def read(array: Any) -> list[jax.Array]:
        """A block of the array for every decay."""
        starts = range(0, array.size, entries)
        blocks = [array.at[pl.ds(start + first, block)] for start in starts]
        return [triton.load(x, mask=valid, other=0.0) for x in blocks]

    (gradient,), (parameter,) = read(of.gradient), read(of.parameter)
    of_entries = Entries(gradient, parameter, read(of.momenta))
    along: list[Any] = []
    if isinstance(of.squares, FullSquares):
        second, full = map(read, of.squares)
        of_entries = of_entries._replace(second_moments=second, full=full)
    elif of.squares is not None:
        row = place // shape[2]
        column = row // shape[1] * shape[2] + place % shape[2]
        factors = [
            of.squares.row[decay, row] * of.squares.column[decay, column]
            for decay in range(of.squares.row.shape[0])
        ]
        of_entries = of_entries._replace(
            second_moments=read(of.squares.second_moments), factors=factors
        )
        along = [(of.squares.along_rows, row), (of.squares.along_columns, column)]
    d, mu = network(of.layers, features(of_entries), along)
    triton.store(
        step.at[pl.ds(first, block)],
        -of.multipliers[0] * d * jnp.exp(of.multipliers[1] * mu),
        mask=valid,
    )


def _as_products(
    layers: Sequence[tuple[Any, Any]], inputs: Sequence[jax.Array], along: Sequence[tuple[Any, Any]]
) -> tuple[jax.Array, jax.Array]:
    """Both outputs, d and μ, [block] each; units along the second axis, padded."""
    (weights, bias), *others, (last, last_bias) = layers
    units = jnp.broadcast_to(bias[:][None, :], (inputs[0].size, bias.size))
    for share, place in along:
        units += share[place, :]
    for i, feature in enumerate(inputs):
        units += feature[:, None] * weights[i, :][None, :]
    for weights, bias in others:
        units = jnp.dot(_relu(units), weights[:, :], precision=_rounding()) + bias[:][None, :]
    units = _relu(units)
    d, mu = (jnp.sum(units * last[i, :][None, :], axis=1) + last_bias[i] for i in range(2))
    return d, mu


def _written_out(
    layers: Sequence[tuple[Any, Any]], inputs: Sequence[jax.Array], along: Sequence[tuple[Any, Any]]
) -> tuple[jax.Array, jax.Array]:
    """Both outputs, d and μ, [block] each; a unit is an array of its own."""
    units: Sequence[jax.Array] = inputs
    for i, (weights, bias) in enumerate(layers):
        before = units if i == 0 else [_relu(unit) for unit in units]
        units = [
            sum((x * weights[j, unit] for j, x in enumerate(before)), start=bias[unit])
            for unit in range(bias.size)
        ]
        if i == 0:
            for share, place in along:
                units = [unit + share[u, place] for u, unit in enumerate(units)]
    d, mu = units
    return d, mu


def _relu(units: jax.Array) -> jax.Array:
    return jnp.where(units <= 0, np.float32(0), units)  # NaN passes


def _rounding() -> jax.lax.Precision | None:
    """What a product takes: None is what `jax.default_matmul_precision` says."""
    return EXACT if getattr(jax.config, PRECISION) is None else None
