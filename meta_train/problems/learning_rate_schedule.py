"""The learning-rate schedule of a classifier (Vicol et al. 2021, section 5.2).

    α_t = e^{θ₀} / (1 + t/τ)^{e^{θ₁}};    v ← μ v + ∇ loss;    p ← p − α_t v

L_t is measured after update t, on a fresh minibatch: the training loss, or minus the accuracy on
validation data, which has no gradient.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from meta_train.problem import UnrolledProblem
from meta_train.problems.image_classifier import (
    ClassifierState,
    accuracy,
    cross_entropy,
    init_training,
    train_step,
)
from tasks.base import Arrays
from tasks.images.families import draw_batch

OBJECTIVES = {"loss": "train", "accuracy": "inner_validation"}
"""What L_t is, and the split of the data that it is measured on."""

START = (math.log(0.003), math.log(30.0))
"""θ where the paper begins: an initial rate of 0.003 and a decay exponent of 30."""


def learning_rate(theta: jax.Array, time: jax.Array, time_scale: float) -> jax.Array:
    """α_t for θ = (log of the initial rate, log of the decay exponent) [2]. Shape of ``time``."""
    return jnp.exp(theta[0]) / (1 + time / time_scale) ** jnp.exp(theta[1])


def learning_rate_schedule(
    objective: str = "loss",
    *,
    hidden: Sequence[int] = (100, 100),
    batch_size: int = 100,
    momentum: float = 0.9,
    time_scale: float = 5000.0,
    pixels: int = 64,
    classes: int = 10,
) -> UnrolledProblem:
    """The problem at the top of this file; θ is an array [2].

    Args:
      objective: "loss": of the training split; "accuracy": minus that of the
        inner-validation split.
      hidden: widths.
      batch_size: B, for the update and for L_t.
      momentum: μ.
      time_scale: τ, in inner steps.
      pixels: entries of an image.
      classes: number of labels.

    ``data`` of the problem are splits of `tasks.base.SPLITS`, "train" and the one that L_t
    is measured on; `meta_train.problems.optimizer_training.meta_data` chooses them.

    Raises:
      ValueError: an argument is out of its range.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective`={objective!r}: must be one of {sorted(OBJECTIVES)}")
    sizes = (pixels, *hidden, classes)
    gates = [jnp.ones((1, 1))] * len(hidden)

    def init(key: jax.Array, theta: jax.Array) -> ClassifierState:
        del theta
        return init_training(key, sizes)

    def step(
        key: jax.Array, theta: jax.Array, state: ClassifierState, data: Mapping[str, Arrays]
    ) -> tuple[ClassifierState, jax.Array]:
        key_update, key_objective = jax.random.split(key)
        rate = learning_rate(theta, state.time, time_scale)
        state = train_step(
            state,
            gates,
            jax.tree.map(lambda _: rate, state.network),
            jax.tree.map(lambda _: momentum, state.network),
            draw_batch(key_update, data["train"], batch_size),
        )
        batch = draw_batch(key_objective, data[OBJECTIVES[objective]], batch_size)
        if objective == "accuracy":
            return state, -accuracy(state.network, gates, batch)
        return state, cross_entropy(state.network, gates, batch)

    return UnrolledProblem(init, step)
