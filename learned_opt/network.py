"""The per-parameter network of an update rule, as a Haiku module."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp


class _Linear(hk.Module):
    """The parameters of an `hk.Linear`, without its product."""

    def __init__(self, inputs: int, outputs: int, name: str):
        super().__init__(name=name)
        self.inputs, self.outputs = inputs, outputs

    def __call__(self) -> tuple[jax.Array, jax.Array]:
        init = hk.initializers.TruncatedNormal(stddev=self.inputs**-0.5)
        weights = hk.get_parameter("w", [self.inputs, self.outputs], init=init)
        return weights, hk.get_parameter("b", [self.outputs], init=jnp.zeros)


class FeaturesMajorMLP(hk.Module):
    """`hk.nets.MLP` with ReLU over the parameters of a tensor, with the cheap identities.

    With features f [features, n], their scales s [features] and inputs shared by all
    parameters c [shared], the plain form is ``MLP(concat([(s·f)ᵀ, tile(c, n)]))``. Here

    * a scale of a feature is a scale of a row of the first weight matrix;
    * a shared input is part of the first layer's bias;
    * the n parameters lie along the last axis, so that every pass runs over long rows.

    The parameters have the names and shapes of `hk.nets.MLP`'s.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, name: str = "mlp"):
        super().__init__(name=name)
        widths = [inputs, *hidden, outputs]
        self.layers = [
            _Linear(before, after, name=f"linear_{i}")
            for i, (before, after) in enumerate(pairwise(widths))
        ]

    def __call__(self, features: jax.Array, scales: jax.Array, shared: jax.Array) -> jax.Array:
        """Shapes: [features, n], [features], [shared] → [outputs, n]."""
        count = features.shape[0]
        weights, bias = self.layers[0]()
        bias = bias + shared @ weights[count:]
        weights = weights[:count] * scales[:, None]
        activations = features
        for layer in self.layers[1:]:
            activations = jax.nn.relu(weights.T @ activations + bias[:, None])
            weights, bias = layer()
        return weights.T @ activations + bias[:, None]


class Network(NamedTuple):
    """``init(key) -> θ``; ``apply(θ, features, scales, shared) -> outputs [outputs, n]``."""

    init: Callable[[jax.Array], hk.MutableParams]
    apply: Callable[..., jax.Array]


def features_major_mlp(
    *, features: int, shared: int, hidden: Sequence[int], outputs: int
) -> Network:
    """A `FeaturesMajorMLP` as pure functions."""
    transformed = hk.without_apply_rng(
        hk.transform(lambda *args: FeaturesMajorMLP(features + shared, hidden, outputs)(*args))
    )

    def init(key: jax.Array) -> hk.MutableParams:
        return transformed.init(
            key, jnp.zeros((features, 1)), jnp.ones(features), jnp.zeros(shared)
        )

    return Network(init, transformed.apply)
