"""Many hyperparameters of a classifier (Vicol et al. 2021, section 5.3): rates, momenta, widths.

    v ← σ(m) v + ∇ loss;    p ← p − e^{r} v        r, m for every weight matrix and bias vector
    gate of hidden unit i of layer l:  clip(σ(u_l)·H − i, 0, 1)

L_t is measured after the update, on a fresh minibatch of validation data. With five hidden
layers θ = (r, m, u) holds 12 + 12 + 5 = 29 numbers; σ is the logistic function, H the width.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problem import UnrolledProblem
from meta_train.problems.image_classifier import (
    ClassifierState,
    Layer,
    Network,
    cross_entropy,
    init_training,
    train_step,
)
from tasks.base import Arrays
from tasks.images.families import draw_batch


class Hyperparameters(NamedTuple):
    """θ: without constraints, so that noise of one size suits all of it.

    ``log_rates``, ``logit_momenta`` [hidden layers + 1, 2]: of the weights and the biases of
    every layer; ``logit_widths`` [hidden layers]: of the share of the units in use.
    """

    log_rates: jax.Array
    logit_momenta: jax.Array
    logit_widths: jax.Array


class Ranges(NamedTuple):
    """Where hyperparameters are drawn: (low, high) each, in natural units."""

    rate: tuple[float, float]
    momentum: tuple[float, float]
    width: tuple[float, float]


def draw_hyperparameters(key: jax.Array, ranges: Ranges, hidden_layers: int) -> Hyperparameters:
    """θ with every entry uniform between the ends of its range, in the units of θ."""
    key_rates, key_momenta, key_widths = jax.random.split(key, 3)

    def between(key: jax.Array, shape: tuple[int, ...], low: float, high: float) -> jax.Array:
        return jax.random.uniform(key, shape, minval=low, maxval=high)

    tensors = (hidden_layers + 1, 2)
    return Hyperparameters(
        between(key_rates, tensors, *np.log(ranges.rate)),
        between(key_momenta, tensors, *logit(ranges.momentum)),
        between(key_widths, (hidden_layers,), *logit(ranges.width)),
    )


def logit(share: tuple[float, float]) -> np.ndarray:
    """The inverse of the logistic function."""
    return np.log(share) - np.log1p(-np.asarray(share))


def gates(logit_widths: jax.Array, width: int) -> list[jax.Array]:
    """One gate [1, width] a layer: whole units in use, then one in part, then none.

    Linear in the share of the units in between, so that a width is a continuous number,
    and with a whole number of units equal to the narrower network.
    """
    in_use = jax.nn.sigmoid(logit_widths) * width
    return [jnp.clip(used - jnp.arange(width), 0, 1)[None] for used in in_use]


def hyperparameters(
    *,
    hidden_layers: int = 5,
    width: int = 100,
    batch_size: int = 100,
    pixels: int = 64,
    classes: int = 10,
) -> UnrolledProblem:
    """The problem at the top of this file; θ is a `Hyperparameters`.

    Args:
      hidden_layers: of ReLU.
      width: H, units of every hidden layer, in use or not.
      batch_size: B, for the update and for L_t.
      pixels: entries of an image.
      classes: number of labels.

    ``data`` of the problem are the splits "train" and "inner_validation" of
    `tasks.base.SPLITS`; `meta_train.problems.optimizer_training.meta_data` chooses them.
    """
    sizes = (pixels, *[width] * hidden_layers, classes)

    def init(key: jax.Array, theta: Hyperparameters) -> ClassifierState:
        del theta
        return init_training(key, sizes)

    def step(
        key: jax.Array, theta: Hyperparameters, state: ClassifierState, data: Mapping[str, Arrays]
    ) -> tuple[ClassifierState, jax.Array]:
        key_update, key_objective = jax.random.split(key)
        open_gates = gates(theta.logit_widths, width)
        state = train_step(
            state,
            open_gates,
            _per_tensor(jnp.exp(theta.log_rates)),
            _per_tensor(jax.nn.sigmoid(theta.logit_momenta)),
            draw_batch(key_update, data["train"], batch_size),
        )
        batch = draw_batch(key_objective, data["inner_validation"], batch_size)
        return state, cross_entropy(state.network, open_gates, batch)

    return UnrolledProblem(init, step)


def _per_tensor(values: jax.Array) -> Network:
    """A number for every tensor of a network, of [layers, 2]."""
    return tuple(Layer(weight, bias) for weight, bias in values)
