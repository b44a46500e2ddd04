"""The per-parameter network of an update rule, as a Haiku module.

The plain form is ``hk.nets.MLP([*hidden, outputs])`` on the scaled inputs of every parameter, one
row each. Here the same mathematics is cheaper:

* a scale of a feature is a scale of a row of the first weight matrix, where it is one number for
  the tensor;
* what is constant along an axis goes through the first layer once for that axis, and what is the
  same for all parameters is part of the bias;
* layers are products with the parameters along the last axes, a block of them at a time; but a
  narrow network on a long tensor is written out unit by unit on processors, which makes all of it
  one pass over memory. It would be slow to compile for every short one, and for other platforms:
  minutes for a GPU.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.blocks import BLOCK, over_blocks

NARROW = 4
"""Units of the widest layer that registers hold."""

CHAINS = 2

Features = Sequence[jax.Array]
Scales = Sequence[jax.Array | None]
Layers = Sequence[tuple[jax.Array, jax.Array]]


class _Linear(hk.Module):
    """The parameters of an `hk.Linear`, without its product."""

    def __init__(self, inputs: int, outputs: int, name: str):
        super().__init__(name=name)
        self.inputs, self.outputs = inputs, outputs

    def __call__(self) -> tuple[jax.Array, jax.Array]:
        init = hk.initializers.TruncatedNormal(stddev=self.inputs**-0.5)
        weights = hk.get_parameter("w", [self.inputs, self.outputs], init=init)
        return weights, hk.get_parameter("b", [self.outputs], init=jnp.zeros)


class PerParameterMLP(hk.Module):
    """`hk.nets.MLP` with ReLU, over the parameters of a tensor: its names, shapes and outputs."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, name: str = "mlp"):
        super().__init__(name=name)
        widths = [inputs, *hidden, outputs]
        self.layers = [
            _Linear(before, after, name=f"linear_{i}")
            for i, (before, after) in enumerate(pairwise(widths))
        ]
        self.written_out = _is_written_out(hidden)

    def __call__(self, features: Features, scales: Scales) -> list[jax.Array]:
        """The outputs, [*shape] each, from features [inputs, *extent] in the order of the inputs.

        A scale is None or [inputs, *extent or 1], and multiplies its feature.
        """
        layers = [layer() for layer in self.layers]
        entries = math.prod(jnp.broadcast_shapes(*(feature.shape[1:] for feature in features)))
        written_out = self.written_out and entries > BLOCK
        return (_written_out if written_out else _as_products)(layers, features, scales)


def is_narrow(hidden: Sequence[int]) -> bool:
    """Whether a network of such layers keeps its units in registers, in one pass over a tensor."""
    return max(hidden) <= NARROW


def _is_written_out(hidden: Sequence[int]) -> bool:
    return is_narrow(hidden) and jax.default_backend() == "cpu"


def _written_out(layers: Layers, features: Features, scales: Scales) -> list[jax.Array]:
    weights, bias = layers[0]
    terms = _first_terms(weights, features, scales)
    extent = jnp.broadcast_shapes(*(term.feature.shape[1:] for term in terms))
    full = [term for term in terms if term.feature.shape[1:] == extent]
    # A product is no part of the pass: within it they would be made again for every entry.
    shared = _products([term for term in terms if term.feature.shape[1:] != extent])
    inputs = [
        (term.feature[i], row if term.scale is None else _scaled_row(row, term.scale[i]))
        for term in full
        for i, row in enumerate(term.rows)
    ]
    units = [
        _sum_by_extent([*(part[unit] for part in shared), *(f * w[..., unit] for f, w in inputs)])
        + bias[unit]
        for unit in range(weights.shape[1])
    ]
    for weights, bias in layers[1:]:
        # Fewer instructions than the maximum, and NaN passes here too.
        units = [jnp.where(unit <= 0, np.float32(0), unit) for unit in units]
        units = [
            _sum_in_chains([unit * weights[i, j] for i, unit in enumerate(units)]) + bias[j]
            for j in range(weights.shape[1])
        ]
    return units


def _as_products(layers: Layers, features: Features, scales: Scales) -> list[jax.Array]:
    weights, bias = layers[0]
    units = _sum_by_extent(_products(_first_terms(weights, features, scales)))
    units = units + _along_first(bias, features[0].ndim)
    for weights, bias in layers[1:]:
        units = _product(weights, jax.nn.relu(units)) + _along_first(bias, units.ndim)
    return list(units)


class _Term(NamedTuple):
    """A feature, its scale and its rows of the first weight matrix."""

    rows: jax.Array
    feature: jax.Array
    scale: jax.Array | None


def _first_terms(weights: jax.Array, features: Features, scales: Scales) -> list[_Term]:
    terms = []
    first = 0
    for feature, scale in zip(features, scales, strict=True):
        rows = weights[first : first + feature.shape[0]]
        first += feature.shape[0]
        terms.append(_Term(rows, feature, scale))
    return terms


def _products(terms: Sequence[_Term]) -> list[jax.Array]:
    """What the first layer makes of the terms: [units, *extent] for each extent among them."""
    parts = defaultdict(list)
    for rows, feature, scale in terms:
        if scale is not None and scale.size == scale.shape[0]:
            rows = rows * scale.reshape(-1, 1)
        elif scale is not None:
            feature = feature * scale
        parts[feature.shape[1:]].append((rows, feature))
    return [
        _product(jnp.concatenate([w for w, _ in part]), jnp.concatenate([f for _, f in part]))
        for part in parts.values()
    ]


def _scaled_row(row: jax.Array, scale: jax.Array) -> jax.Array:
    """Weights [*extent or 1, units] of one input."""
    return scale[..., None] * row.reshape(*[1] * scale.ndim, -1)


def _product(weights: jax.Array, units: jax.Array) -> jax.Array:
    """Shapes: [inputs, outputs], [inputs, *extent] → [outputs, *extent]."""
    return jnp.tensordot(weights.T, units, axes=1)


def _along_first(bias: jax.Array, rank: int) -> jax.Array:
    return bias.reshape(-1, *[1] * (rank - 1))


def _sum_by_extent(terms: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays that broadcast, the small ones first."""
    by_shape = groupby(sorted(terms, key=lambda x: (x.size, x.shape)), key=lambda x: x.shape)
    return reduce(jnp.add, [_sum_in_chains(list(alike)) for _, alike in by_shape])


def _sum_in_chains(terms: Sequence[jax.Array]) -> jax.Array:
    """The sum as a few sums side by side: a processor would wait for each addition of one."""
    return reduce(jnp.add, [reduce(jnp.add, terms[i::CHAINS]) for i in range(CHAINS) if terms[i:]])


class Network(NamedTuple):
    """``init(key) -> θ``; ``apply(θ, features, scales) -> [*shape] for every output``;
    ``layers(θ)``: weights [inputs, units] and bias [units] of each.

    ``evaluate(function, arrays, shape)`` is ``function(arrays)``, for one that applies the
    network to every entry alike; see `over_blocks`.
    """

    init: Callable[[jax.Array], hk.MutableParams]
    apply: Callable[[hk.MutableParams, Features, Scales], list[jax.Array]]
    layers: Callable[[hk.MutableParams], list[tuple[jax.Array, jax.Array]]]
    evaluate: Callable[[Callable[[Any], jax.Array], Any, tuple[int, ...]], jax.Array]


def per_parameter_mlp(inputs: int, hidden: Sequence[int], outputs: int) -> Network:
    """A `PerParameterMLP` as pure functions."""

    def pure(function: Callable[..., Any]) -> hk.Transformed:
        return hk.without_apply_rng(
            hk.transform(lambda *args: function(PerParameterMLP(inputs, hidden, outputs), *args))
        )

    whole = pure(PerParameterMLP.__call__)
    parts = pure(lambda mlp: [layer() for layer in mlp.layers])

    def init(key: jax.Array) -> hk.MutableParams:
        return whole.init(key, [jnp.zeros((inputs, 1))], [None])

    def evaluate(
        function: Callable[[Any], jax.Array], arrays: Any, shape: tuple[int, ...]
    ) -> jax.Array:
        if _is_written_out(hidden):  # it keeps nothing of what is in between
            return function(arrays)
        return over_blocks(function, arrays, shape)

    return Network(init, whole.apply, parts.apply, evaluate)
