"""The whole step of `mlp` and of `adafactor_mlp` on one tensor, as one call of a compiled kernel.

    m ← βm + (1−β)g, …;    f: the features, each over its root mean square;    d, μ = MLP(f, time)
    step = −a·d·exp(b·μ)

The plain forms are in the rules themselves; they are also where derivatives come from. Arrays are
[*shape] of the tensor here, and matrices [b, r, c] for the kernel.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.features.statistics import Decays, Statistics, factored_axes
from learned_opt.kernels import native

MOMENTA, FACTORED, FULL = 0, 1, 2
"""What the kernel's features are made of; see `Inputs` in its source."""

LONG = 1 << 16
"""Entries up to which the kernel is the faster form of every rule that it has."""

Layers = Sequence[tuple[jax.Array, jax.Array]]


class Recipe(NamedTuple):
    """a and b at the top, which may be traced, and ε under the root of the mean squares."""

    step_multiplier: float | jax.Array
    exponent_multiplier: float | jax.Array
    epsilon: float

    def multipliers(self) -> jax.Array:
        """The pair a, b, float32 [2]."""
        pair = self.step_multiplier, self.exponent_multiplier
        return jnp.stack([jnp.asarray(x, jnp.float32) for x in pair])


def kernel_fits(parameter: jax.Array, *, long: bool) -> bool:
    """Whether a tensor is one that the kernel takes here; ``long``: also one of many entries.

    On a processor, whole on one device: XLA does not know how to cut a kernel's arrays. Particles
    inside `jax.shard_map` are; so is a model on the only device.
    """
    if jax.default_backend() != "cpu" or not 0 < parameter.size <= (math.inf if long else LONG):
        return False
    return whole_here() and axes_are_last(parameter.shape) and native.available()


def whole_here() -> bool:
    """Whether arrays are whole on one device where this is called."""
    return jax.device_count() == 1 or bool(jax.sharding.get_abstract_mesh().manual_axes)


def with_derivative_of(plain: Callable[..., Any], kernel: Callable[..., Any]) -> Any:
    """``kernel``, whose derivatives are those of the ``plain`` form of it."""
    function: Any = jax.custom_jvp(kernel)
    function.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return function


def mlp_step(
    recipe: Recipe,
    layers: Layers,
    time: jax.Array,
    decays: jax.Array,
    gradient: jax.Array,
    parameter: jax.Array,
    momenta: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The step [*shape] and the momenta [K, *shape] of the rule `mlp`; all float32."""
    shape = (1, 1, gradient.size)
    of_entries = (len(decays), *shape)
    operands = (
        gradient.reshape(shape),
        parameter.reshape(shape),
        momenta.reshape(of_entries),
        decays,
        time,
    )
    results = (_like(of_entries), _like(shape))
    momenta, step = _call(recipe, MOMENTA, True, operands, layers, results, {2: 0})
    return step.reshape(gradient.shape), momenta.reshape(-1, *gradient.shape)


def adafactor_step(
    recipe: Recipe,
    layers: Layers,
    time: jax.Array,
    decays: Decays,
    gradient: jax.Array,
    parameter: jax.Array,
    before: Statistics,
) -> tuple[jax.Array, Statistics]:
    """The step [*shape] and the statistics of the rule `adafactor_mlp`; all float32."""
    shape = matrices(gradient.shape)
    axes = factored_axes(gradient.shape)
    along_rows = axes is None or axes[1] == gradient.ndim - 1
    old = jax.tree.leaves(before)  # below rank 2 three arrays, else four
    arrays = [old[0].reshape(-1, *shape), old[1].reshape(-1, *shape)]
    arrays += (
        [x.reshape(len(x), shape[0], -1) for x in old[2:]] if axes else [old[2].reshape(-1, *shape)]
    )
    momenta, second, *squares = arrays
    operands = (
        gradient.reshape(shape), parameter.reshape(shape), momenta, decays.momentum,
        second, decays.second_moment, squares[0], squares[-1], decays.factored, time,
    )  # fmt: skip
    results = (*(_like(x.shape) for x in arrays), _like(shape))
    aliases = {2: 0, 4: 1, 6: 2, **({7: 3} if axes else {})}
    kind = FACTORED if axes else FULL
    *arrays, step = _call(recipe, kind, along_rows, operands, layers, results, aliases)
    after = [x.reshape(of.shape) for x, of in zip(arrays, old, strict=True)]
    statistics = jax.tree.unflatten(jax.tree.structure(before), after)
    return step.reshape(gradient.shape), statistics


def _call(
    recipe: Recipe,
    kind: int,
    along_rows: bool,
    operands: Sequence[jax.Array],
    layers: Layers,
    results: Sequence[jax.ShapeDtypeStruct],
    aliases: dict[int, int],
) -> Sequence[jax.Array]:
    """``aliases``: the operands that results are written over, where nobody else reads them."""
    call = jax.ffi.ffi_call(
        native.TARGET, results, vmap_method="broadcast_all", input_output_aliases=aliases
    )
    return call(
        *operands,
        recipe.multipliers(),
        *(array for layer in layers for array in layer),
        inputs=np.int64(kind),
        row_along_rows=along_rows,
        layers=np.int64(len(layers)),
        epsilon=np.float32(recipe.epsilon),
    )


def _like(shape: Sequence[int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), np.float32)


def matrices(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A tensor as matrices over its last two axes; below rank 2 as one row."""
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def axes_are_last(shape: tuple[int, ...]) -> bool:
    """Whether the axes that Adafactor's statistics are factored by are those of the matrices."""
    axes = factored_axes(shape)
    return axes is None or min(axes) == len(shape) - 2
