"""From a configuration to all that a run is made of."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from learned_opt import LearnedOptimizer
from meta_train.config import ConfigError, MetaTrainConfig, tasks_of
from meta_train.estimation import make_estimator, rows_of
from meta_train.estimators import GradientEstimator
from meta_train.estimators.base import Layout
from meta_train.inner_gradient import differentiate_as
from meta_train.many_tasks import many_task_training
from meta_train.meta_training import EstimatorAt, MetaTraining, meta_training, outer_step
from meta_train.outer import outer_optimizer
from meta_train.parallel import (
    by_process,
    default_block,
    device_mesh,
    placed,
    put_once,
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
from meta_train.task_list import shares
from meta_train.task_scale import in_units_of, normalized
from tasks import StreamError, TaskFamily, get_family, get_streamed_family

TASKS_TRIED = 8


class Run(NamedTuple):
    """The parts of a run; ``data``, by task where there are several, and keys are on the devices
    of ``mesh``.
    """

    config: MetaTrainConfig
    families: tuple[TaskFamily, ...]
    rule: TrainedRule
    training: MetaTraining
    mesh: Mesh
    block: int
    data: Any
    key_init: jax.Array
    key_updates: jax.Array

    @property
    def family(self) -> TaskFamily:
        """The task of a run that has one."""
        (family,) = self.families
        return family

    @property
    def optimizer(self) -> LearnedOptimizer:
        """What is trained: the rule, but for what is frozen of its θ."""
        return self.rule.optimizer


def assemble(config: MetaTrainConfig, family: TaskFamily | None = None) -> Run:
    """Read the data, check the tasks, and put the run together; nothing is compiled yet.

    ``family`` stands in for what ``config.task`` names. Of streamed tasks the data are those of
    the first updates.

    Raises:
      ConfigError: the rule cannot be made or trained so, a task has no accuracy where that
        is the meta-loss, its loss is not finite at its start, its data cannot be streamed so, or
        there are too few devices.
      UnknownTaskError, DataUnavailableError: of `tasks.get_family`.
      FileNotFoundError, OptimizerFormatError: of the optimizer to begin with.
    """
    key_init, key_updates = jax.random.split(jax.random.key(config.seed))
    rule = make_rule(config, key_init)
    names = [task.name for task in tasks_of(config)]
    families = [family] if family else [_family_of(config, name) for name in names]
    mesh, block = _machine(config)
    layout, put = split_rows(mesh, block), put_once(replicated(mesh))
    estimators: dict[str, EstimatorAt] = {}
    data: dict[str, Any] = {}
    for family in families:
        estimators[family.name], arrays = prepare(
            config, family, rule, layout, alone=len(families) == 1
        )
        data[family.name] = put(arrays)
    return Run(
        config=config,
        families=tuple(families),
        rule=rule,
        training=_training_of(config, rule, estimators, mesh),
        mesh=mesh,
        block=block,
        data=data if len(families) > 1 else data[families[0].name],
        key_init=placed(key_init, replicated(mesh)),
        key_updates=placed(key_updates, replicated(mesh)),
    )


def streamed(run: Run) -> list[TaskFamily]:
    """The tasks of a run whose training data change as it goes on."""
    return [family for family in run.families if family.pool is not None]


def _family_of(config: MetaTrainConfig, name: str) -> TaskFamily:
    """The family of a name, streamed where the configuration says so."""
    if not config.stream_pool:
        return get_family(name, download=config.download)
    try:
        return get_streamed_family(
            name, rows=config.stream_pool, seed=config.seed, download=config.download
        )
    except StreamError as error:
        raise ConfigError(f"`config.stream_pool`={config.stream_pool}: {error}") from None


def prepare(
    config: MetaTrainConfig, family: TaskFamily, rule: TrainedRule, layout: Layout, *, alone: bool
) -> tuple[EstimatorAt, Any]:
    """The estimator of a task and its data, checked; a task that is ``alone`` is not scaled."""
    splits = family.load()
    check_initial_loss(family, splits)
    bound = config.loss_clip * family.metadata.initial_loss
    meta_loss = META_LOSSES[config.meta_loss]
    problem = optimizer_training(
        family,
        rule.optimizer,
        meta_loss=config.meta_loss,
        final_loss_bound=bound,
        differentiate=differentiate_as(config, family, splits["train"]),
    )
    data = meta_data(splits, config.meta_loss)
    check_meta_loss(problem, rule.optimizer, data)
    scale = "none" if alone else config.task_scale
    if scale != "none" and meta_loss.is_loss:
        problem = in_units_of(problem, family.metadata.initial_loss)
        bound = config.loss_clip

    def estimator_at(update: jax.Array) -> GradientEstimator:
        estimator = make_estimator(
            config,
            problem,
            update,
            loss_bound=None if meta_loss.telescoped else bound,
            layout=layout,
        )
        return normalized(estimator) if scale == "gradient_norm" else estimator

    return estimator_at, data


def _training_of(
    config: MetaTrainConfig, rule: TrainedRule, estimators: Mapping[str, EstimatorAt], mesh: Mesh
) -> MetaTraining:
    init, log_every, several = rule.optimizer.init, config.log_every, len(estimators) > 1
    outer = outer_step(
        outer_optimizer(config),
        log_every=log_every,
        gradient_limit=config.gradient_limit,
        others=("tasks",) if several else (),
    )
    if several:
        drawn = partial(shares, tasks_of(config), config.tasks_per_update, config.seed)
        return many_task_training(init, estimators, outer, mesh, drawn, log_every=log_every)
    (estimator_at,) = estimators.values()
    return meta_training(init, estimator_at, outer, mesh)


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
        batch = family.training_batch(keys[3], arrays)
        return task.loss(params, model_state, keys[2], batch)[0]

    keys = jax.random.split(jax.random.key(0), TASKS_TRIED)
    # Run once: without optimisation it compiles in a fifth of the time.
    tried = jax.jit(
        jax.vmap(initial_loss, in_axes=(0, None)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    losses = tried(keys, splits["train"])
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
    of_processes = by_process(devices)
    share, rest = divmod(config.devices, len(of_processes))
    if rest:
        raise ConfigError(
            f"`config.devices`={config.devices}: must be a multiple of the {len(of_processes)} "
            "processes of the run, or 0 to take what there is"
        )
    own = share or min(map(len, of_processes))
    if config.batch_devices > own:
        raise ConfigError(
            f"`config.batch_devices`={config.batch_devices}: a process of the run has {own} "
            "devices; lower it, or set `config.microbatches`"
        )
    taken = [d for own in of_processes for d in own[: share or None]]
    try:
        mesh = device_mesh(rows, taken, batch_devices=config.batch_devices)
    except ValueError:
        raise ConfigError(
            f"--num_processes={len(of_processes)} does not divide the {rows} rows (pairs of "
            f"particles, or episodes) of `config.particles`={config.particles}; give every process "
            "as many"
        ) from None
    per_device = rows // row_devices(mesh)
    block = config.block or default_block(per_device)
    if per_device % min(block, per_device):
        raise ConfigError(
            f"`config.block`={block} does not divide the {per_device} rows of a device"
        )
    return mesh, block
