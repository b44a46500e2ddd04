"""From a configuration to all that a run is made of."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from learned_opt import LearnedOptimizer
from meta_train.config import ConfigError, MetaTrainConfig
from meta_train.estimation import make_estimator, rows_of
from meta_train.inner_gradient import differentiate_as
from meta_train.meta_training import MetaTraining, meta_training
from meta_train.outer import outer_optimizer
from meta_train.parallel import (
    default_block,
    device_mesh,
    replicated,
    row_devices,
    split_rows,
)
from meta_train.problem import UnrolledProblem
from meta_train.problems.optimizer_training import (
    META_LOSSES,
    NoAccuracyError,
    meta_data,
    optimizer_training,
)
from meta_train.rule import TrainedRule, make_rule
from tasks import TaskFamily, get_family

TASKS_TRIED = 8


class Run(NamedTuple):
    """The parts of a run; ``data`` and keys are on the devices of ``mesh``."""

    config: MetaTrainConfig
    family: TaskFamily
    rule: TrainedRule
    training: MetaTraining
    mesh: Mesh
    block: int
    data: Any
    key_init: jax.Array
    key_updates: jax.Array

    @property
    def optimizer(self) -> LearnedOptimizer:
        """What is trained: the rule, but for what is frozen of its θ."""
        return self.rule.optimizer


def assemble(config: MetaTrainConfig, family: TaskFamily | None = None) -> Run:
    """Read the data, check the task, and put the run together; nothing is compiled yet.

    ``family`` stands in for the one that ``config.task`` names.

    Raises:
      ConfigError: the rule cannot be made or trained so, the task has no accuracy where that
        is the meta-loss, its loss is not finite at its start, or there are too few devices.
      UnknownTaskError, DataUnavailableError: of `tasks.get_family`.
      FileNotFoundError, OptimizerFormatError: of the optimizer to begin with.
    """
    key_init, key_updates = jax.random.split(jax.random.key(config.seed))
    rule = make_rule(config, key_init)
    family = family or get_family(config.task, download=config.download)
    splits = family.load()
    check_initial_loss(family, splits)
    mesh, block = _machine(config)
    bound = config.loss_clip * family.metadata.initial_loss
    problem = optimizer_training(
        family,
        rule.optimizer,
        meta_loss=config.meta_loss,
        final_loss_bound=bound,
        differentiate=differentiate_as(config, family, splits["train"]),
    )
    data = meta_data(splits, config.meta_loss)
    check_meta_loss(problem, rule.optimizer, data)
    estimator = make_estimator(
        config,
        problem,
        loss_bound=None if META_LOSSES[config.meta_loss].telescoped else bound,
        layout=split_rows(mesh, block),
    )
    return Run(
        config=config,
        family=family,
        rule=rule,
        training=meta_training(rule.optimizer.init, estimator, outer_optimizer(config), mesh),
        mesh=mesh,
        block=block,
        data=jax.device_put(data, replicated(mesh)),
        key_init=jax.device_put(key_init, replicated(mesh)),
        key_updates=jax.device_put(key_updates, replicated(mesh)),
    )


def check_meta_loss(problem: UnrolledProblem, optimizer: LearnedOptimizer, data: Any) -> None:
    """Raise ConfigError for a meta-loss that the task does not have."""

    def first_loss(key: jax.Array, data: Any) -> jax.Array:
        theta = optimizer.init(key)
        return problem.step(key, theta, problem.init(key, theta), data)[1]

    try:
        jax.eval_shape(first_loss, jax.random.key(0), data)
    except NoAccuracyError as error:
        raise ConfigError(f"`config.{str(error).removeprefix('`')}") from None


def check_initial_loss(family: TaskFamily, splits: Any) -> None:
    """Raise ConfigError for a family whose loss is not finite before any training."""

    def initial_loss(key: jax.Array, arrays: Any) -> jax.Array:
        keys = jax.random.split(key, 4)
        task = family.build(family.sample(keys[0]))
        params, model_state = task.init(keys[1])
        return task.loss(params, model_state, keys[2], family.batch(keys[3], arrays))[0]

    keys = jax.random.split(jax.random.key(0), TASKS_TRIED)
    losses = jax.jit(jax.vmap(initial_loss, in_axes=(0, None)))(keys, splits["train"])
    if not jnp.isfinite(losses).all():
        raise ConfigError(
            f"the loss of the task {family.name!r} is {np.asarray(losses).tolist()} at its start; "
            "meta-training needs tasks whose initial loss is finite: check its data and model"
        )


def _machine(config: MetaTrainConfig) -> tuple[Mesh, int]:
    rows = rows_of(config)
    devices = jax.devices()
    if config.devices > len(devices):
        raise ConfigError(
            f"`config.devices`={config.devices}: there are {len(devices)} {devices[0].platform} "
            "devices here; lower it, or 0 to take what there is"
        )
    if config.batch_devices > (config.devices or len(devices)):
        raise ConfigError(
            f"`config.batch_devices`={config.batch_devices}: the run has "
            f"{config.devices or len(devices)} devices; lower it, or set `config.microbatches`"
        )
    mesh = device_mesh(rows, devices[: config.devices or None], batch_devices=config.batch_devices)
    per_device = rows // row_devices(mesh)
    block = config.block or default_block(per_device)
    if per_device % min(block, per_device):
        raise ConfigError(
            f"`config.block`={block} does not divide the {per_device} rows of a device"
        )
    return mesh, block
