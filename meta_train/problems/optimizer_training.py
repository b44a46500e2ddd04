"""Training a task with a learned optimizer, as an unrolled problem.

    p_t = p_{t−1} + update(∇ loss, …; θ),    on a minibatch of the training data

and L_t is one of `META_LOSSES`: the loss whose gradient is taken, or one on other data.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from meta_train.problem import NEVER, UnrolledProblem
from meta_train.problems.final_loss import final_loss
from tasks.base import Arrays, Differentiate, Task, TaskFamily, differentiate_whole

SEEDS = 2**31 - 1
INNER_GRADIENT, RULE = "inner_gradient", "rule"
"""Names of the parts of a step among the operations of a compiled program."""


class NoAccuracyError(ValueError):
    """The accuracy of a task that has none was asked for."""


class TrainingState(NamedTuple):
    """An inner training run: its task's configuration and all that training changes.

    ``evaluation``, int32: seed of the minibatch that a final loss is measured on;
    ``num_steps``, int32: the length of the run, which some optimizers plan for.
    """

    configuration: Any
    params: Any
    model_state: Any
    optimizer_state: Any
    evaluation: jax.Array
    num_steps: jax.Array


class InnerStep(NamedTuple):
    """What a meta-loss may look at: the run before and after a step, and the loss between."""

    task: Task
    before: TrainingState
    after: TrainingState
    loss: jax.Array


Measure = Callable[[TaskFamily, InnerStep, jax.Array, Mapping[str, Arrays]], jax.Array]


class MetaLoss(NamedTuple):
    """``measure`` gives L_t on the ``split``; ``differentiable``: it has a gradient;
    ``telescoped``: L_T alone is wanted, so that differences are handed out; ``is_loss``: it is
    in the unit of the task's loss.
    """

    split: str
    measure: Measure
    differentiable: bool = True
    telescoped: bool = False
    is_loss: bool = True


def _of_the_step(
    family: TaskFamily, step: InnerStep, key: jax.Array, data: Mapping[str, Arrays]
) -> jax.Array:
    del family, key, data
    return step.loss


def _on_fresh_validation(
    family: TaskFamily, step: InnerStep, key: jax.Array, data: Mapping[str, Arrays]
) -> jax.Array:
    loss, _ = _evaluate(family, step.task, step.before, key, data)
    return loss


def _accuracy(
    family: TaskFamily, step: InnerStep, key: jax.Array, data: Mapping[str, Arrays]
) -> jax.Array:
    _, metrics = _evaluate(family, step.task, step.before, key, data)
    if "accuracy" not in metrics:
        raise NoAccuracyError(
            f"`meta_loss`='validation_accuracy': the task {family.name!r} has no accuracy; choose "
            "a classification task, or another meta-loss"
        )
    return -metrics["accuracy"]


def _on_fixed_validation(
    family: TaskFamily, step: InnerStep, key: jax.Array, data: Mapping[str, Arrays]
) -> jax.Array:
    del key
    fixed = jax.random.key(step.after.evaluation)
    loss, _ = _evaluate(family, step.task, step.after, fixed, data)
    return loss


def _evaluate(
    family: TaskFamily,
    task: Task,
    state: TrainingState,
    key: jax.Array,
    data: Mapping[str, Arrays],
) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    key_batch, key_loss = jax.random.split(key)
    batch = family.batch(key_batch, data["inner_validation"])
    loss, (_, metrics) = task.loss(state.params, state.model_state, key_loss, batch)
    return loss, metrics


META_LOSSES: Mapping[str, MetaLoss] = {
    "train": MetaLoss("train", _of_the_step),
    "validation": MetaLoss("inner_validation", _on_fresh_validation),
    "final_validation": MetaLoss("inner_validation", _on_fixed_validation, telescoped=True),
    "validation_accuracy": MetaLoss(
        "inner_validation", _accuracy, differentiable=False, is_loss=False
    ),
}
"""L_t by name. "train": the loss whose gradient is taken at step t. "validation": the loss at
the same parameters on a fresh minibatch of the inner-validation split. "final_validation": the
loss at the end of the episode, on one minibatch of that split for the whole episode, as
differences. "validation_accuracy": minus the share of a fresh minibatch that is right."""


def optimizer_training(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    *,
    meta_loss: str = "train",
    final_loss_bound: float | None = None,
    differentiate: Differentiate = differentiate_whole,
) -> UnrolledProblem:
    """The problem at the top of this file.

    Args:
      family: draws a task for every episode.
      optimizer: the rule whose θ is meta-trained.
      meta_loss: a name in `META_LOSSES`.
      final_loss_bound: of L_t where it is handed out in differences; see `final_loss`.
      differentiate: how the inner gradient is taken: see `inner_gradient`.

    ``data`` of the problem is what `meta_data` returns.

    Raises:
      ValueError: ``meta_loss`` is unknown.
      NoAccuracyError: in a step, where the accuracy is wanted and the task has none.
    """
    if meta_loss not in META_LOSSES:
        raise ValueError(f"`meta_loss`={meta_loss!r}: must be one of {sorted(META_LOSSES)}")
    chosen = META_LOSSES[meta_loss]

    def init(key: jax.Array, theta: Theta) -> TrainingState:
        return init_of_length(key, theta, jnp.asarray(NEVER, jnp.int32))

    def init_of_length(key: jax.Array, theta: Theta, length: jax.Array) -> TrainingState:
        key_sample, key_init = jax.random.split(key)
        configuration = family.sample(key_sample)
        params, model_state = family.build(configuration).init(key_init)
        optimizer_state = optimizer.build(theta, num_steps=length).init(params)
        evaluation = jax.random.randint(jax.random.fold_in(key, 2), (), 0, SEEDS)
        return TrainingState(
            configuration, params, model_state, optimizer_state, evaluation, length
        )

    def step(
        key: jax.Array, theta: Theta, state: TrainingState, data: Mapping[str, Arrays]
    ) -> tuple[TrainingState, jax.Array]:
        key_batch, key_loss, key_measure = jax.random.split(key, 3)
        task = family.build(state.configuration)
        with jax.named_scope(INNER_GRADIENT):
            batch = family.training_batch(key_batch, data["train"])
            (loss, (model_state, _)), gradient = task.value_and_gradient(
                state.params, state.model_state, key_loss, batch, differentiate
            )
        with jax.named_scope(RULE):
            transformation = optimizer.build(theta, num_steps=state.num_steps)
            updates, optimizer_state = transformation.update(
                gradient, state.optimizer_state, state.params, value=loss
            )
            params = optax.apply_updates(state.params, updates)
        after = state._replace(
            params=params, model_state=model_state, optimizer_state=optimizer_state
        )
        inner = InnerStep(task, state, after, loss)
        return after, chosen.measure(family, inner, key_measure, data)

    problem = UnrolledProblem(init, step, init_of_length)
    return final_loss(problem, final_loss_bound) if chosen.telescoped else problem


def meta_data(splits: Mapping[str, Arrays], meta_loss: str) -> Mapping[str, Arrays]:
    """The splits that the problem reads, as its ``data``."""
    return {name: splits[name] for name in sorted({"train", META_LOSSES[meta_loss].split})}
