"""Training a task with a learned optimizer, as an unrolled problem.

    L_t = the loss at p_{t−1};    p_t = p_{t−1} + update(∇ loss, …; θ)

on a minibatch of the training data, or L_t on one of the inner-validation split.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax

from learned_opt.base import LearnedOptimizer, Theta
from meta_train.problem import UnrolledProblem
from tasks.base import Arrays, TaskFamily

META_LOSSES = {"train": "train", "validation": "inner_validation"}
"""The split of the data that the meta-loss is taken on."""


class TrainingState(NamedTuple):
    """An inner training run: its task's configuration and all that training changes."""

    configuration: Any
    params: Any
    model_state: Any
    optimizer_state: Any


def optimizer_training(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    *,
    meta_loss: str = "train",
) -> UnrolledProblem:
    """The problem at the top of this file.

    Args:
      family: draws a task for every episode.
      optimizer: the rule whose θ is meta-trained.
      meta_loss: "train": L_t is the loss whose gradient is taken; "validation": a minibatch
        of the inner-validation split at the same parameters.

    ``data`` of the problem is what `meta_data` returns.

    Raises:
      ValueError: an argument is out of its range.
    """
    if meta_loss not in META_LOSSES:
        raise ValueError(f"`meta_loss`={meta_loss!r}: must be one of {sorted(META_LOSSES)}")

    def init(key: jax.Array, theta: Theta) -> TrainingState:
        key_sample, key_init = jax.random.split(key)
        configuration = family.sample(key_sample)
        params, model_state = family.build(configuration).init(key_init)
        optimizer_state = optimizer.build(theta).init(params)
        return TrainingState(configuration, params, model_state, optimizer_state)

    def step(
        key: jax.Array, theta: Theta, state: TrainingState, data: Mapping[str, Arrays]
    ) -> tuple[TrainingState, jax.Array]:
        key_batch, key_loss, key_validation = jax.random.split(key, 3)
        task = family.build(state.configuration)
        differentiate = jax.value_and_grad(task.loss, has_aux=True)
        batch = family.batch(key_batch, data["train"])
        (loss, (model_state, _)), gradient = differentiate(
            state.params, state.model_state, key_loss, batch
        )
        updates, optimizer_state = optimizer.build(theta).update(
            gradient, state.optimizer_state, state.params, value=loss
        )
        params = optax.apply_updates(state.params, updates)
        if meta_loss == "validation":
            key_batch, key_loss = jax.random.split(key_validation)
            batch = family.batch(key_batch, data["inner_validation"])
            loss, _ = task.loss(state.params, state.model_state, key_loss, batch)
        return TrainingState(state.configuration, params, model_state, optimizer_state), loss

    return UnrolledProblem(init, step)


def meta_data(splits: Mapping[str, Arrays], meta_loss: str) -> Mapping[str, Arrays]:
    """The splits that the problem reads, as its ``data``."""
    return {name: splits[name] for name in sorted({"train", META_LOSSES[meta_loss]})}
