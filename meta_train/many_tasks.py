"""Meta-training on a list of tasks: a compiled estimate for each, and one compiled outer step.

    g_k = Σ_i s_i ĝ_i,   ĝ_i, e_i = estimator_i.step(fold_in(fold_in(key, k), i), θ_k, e_i, data_i)
    θ_{k+1} = θ_k + outer update(g_k)

over the tasks drawn for update k, with the shares s_i of `task_list`. A task that is not drawn
stays as it is. The programs of an update run one after the other, each on all devices, and hand
on the sum: two collectives at once can lock XLA's CPU threads. The host waits for none of them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from meta_train.estimators.base import signal_to_noise
from meta_train.meta_training import (
    SUMMARY,
    EstimatorAt,
    MetaState,
    MetaTraining,
    Metrics,
    OuterStep,
    estimator_shardings,
    summarize,
)
from meta_train.parallel import replicated
from meta_train.problem import Data, Theta
from meta_train.runtime import usable_cores

IN_FLIGHT = 8
"""Programs dispatched and not yet done: far from the 32 at which XLA's CPU client can lock up."""

COUNTED = ("restarts", "diverged")
OF_TASK = ("meta_loss", "meta_gradient_norm", "signal_to_noise", "diverged")
"""Metrics that add up over the tasks of an update, and those that are logged of every task."""

Shares = Callable[[int], np.ndarray]


class Gathered(NamedTuple):
    """What the tasks of an update have given so far: Σ s_i ĝ_i like θ, its variance Σ s_i² Var ĝ_i,
    the metrics of `summarize`, Σ s_i of each but for sums of the `COUNTED` ones, and how many
    tasks there were.
    """

    gradient: Theta
    variance: jax.Array
    metrics: Metrics
    tasks: jax.Array


class TaskState(NamedTuple):
    """Of one task: its estimator's, and ``sums`` float32 [OF_TASK + 1] of its metrics over its
    windows, and of their number, in the ``row`` of the log that it was last drawn in, int32.
    """

    estimator: Any
    sums: jax.Array
    row: jax.Array


class Programs(NamedTuple):
    """``estimates``, by task: (gathered, task's state, θ, step, key, share, data) -> (gathered,
    task's state, loss); ``apply(state, gathered) -> (state, gathered)``, with the state but for
    its tasks, and nothing gathered any more, as ``begin()`` has it; ``report(state, {task: (sums,
    row)}) -> metrics``. All jitted, or all compiled.
    """

    estimates: Mapping[str, Any]
    apply: Any
    begin: Any
    report: Any


def many_task_training(
    init_theta: Callable[[jax.Array], Theta],
    estimators: Mapping[str, EstimatorAt],
    outer: OuterStep,
    mesh: Mesh,
    shares: Shares,
    *,
    log_every: int,
) -> MetaTraining:
    """Put the estimators of several tasks and an outer step together on a mesh.

    ``outer`` takes "tasks" in its summary; ``shares(k)`` are those of the tasks in update k, in
    the order of ``estimators``. The data of the training are by task, as the state of the
    estimator is. A row of the log is ``log_every`` updates, and what it says of a task is over
    its windows in the row.
    """

    def init(key: jax.Array) -> MetaState:
        key_theta, key_estimator = jax.random.split(key)
        theta = init_theta(key_theta)
        states = {
            name: TaskState(
                at(jnp.zeros((), jnp.int32)).init(jax.random.fold_in(key_estimator, i), theta),
                jnp.zeros(len(OF_TASK) + 1),
                jnp.zeros((), jnp.int32),
            )
            for i, (name, at) in enumerate(estimators.items())
        }
        return outer.init(theta, states)

    shapes = jax.eval_shape(init, jax.random.key(0))
    whole = replicated(mesh)
    shardings = jax.tree.map(lambda _: whole, shapes)
    for name, task in shapes.estimator.items():
        split = estimator_shardings(task.estimator, mesh)
        shardings.estimator[name] = shardings.estimator[name]._replace(estimator=split)
    programs = _programs(estimators, outer, shapes, shardings, log_every)

    def compiled(state: MetaState, key: jax.Array, data: Mapping[str, Data]) -> "ManyAdvance":
        return ManyAdvance(_compile(programs, state, key, data), shares)

    return MetaTraining(
        jax.jit(init, out_shardings=shardings), ManyAdvance(programs, shares), compiled, shardings
    )


class ManyAdvance:
    """``(state, count, key, data) -> (state, metrics)``: see `MetaTraining`."""

    def __init__(self, programs: Programs, shares: Shares):
        self.programs, self._shares = programs, shares
        self._returned: tuple[jax.Array | None, int] = (None, 0)
        self._running: deque[jax.Array] = deque()

    def __call__(
        self, state: MetaState, count: int, key: jax.Array, data: Mapping[str, Data]
    ) -> tuple[MetaState, Metrics]:
        """Make ``count`` updates, dispatching all of them."""
        first = self._step_of(state)
        tasks, rest = dict(state.estimator), state._replace(estimator=())
        gathered = self.programs.begin()
        for step in range(first, first + int(count)):
            for name, share in self._drawn(step):
                gathered, tasks[name], loss = self.programs.estimates[name](
                    gathered, tasks[name], rest.theta, rest.step, key, share, data[name]
                )
                self._wait_for_a_place(loss)
            rest, gathered = self.programs.apply(rest, gathered)
        rows = {name: (task.sums, task.row) for name, task in tasks.items()}
        metrics = self.programs.report(rest, rows)
        self._returned = rest.step, first + int(count)
        return rest._replace(estimator=tasks), metrics

    def _drawn(self, step: int) -> Iterator[tuple[str, np.float32]]:
        for name, share in zip(self.programs.estimates, self._shares(step), strict=True):
            if share > 0:
                yield name, np.float32(share)

    def _step_of(self, state: MetaState) -> int:
        """The step of a state; of the one returned last without waiting for it."""
        array, step = self._returned
        return step if state.step is array else int(state.step)

    def _wait_for_a_place(self, result: jax.Array) -> None:
        self._running.append(result)
        if len(self._running) > IN_FLIGHT:
            jax.block_until_ready(self._running.popleft())


def _programs(
    estimators: Mapping[str, EstimatorAt],
    outer: OuterStep,
    shapes: MetaState,
    shardings: MetaState,
    log_every: int,
) -> Programs:
    whole, rest = shardings.step, shardings._replace(estimator=())

    def begin() -> Gathered:
        zero = jnp.zeros((), jnp.float32)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.theta)
        return Gathered(zeros, zero, dict.fromkeys(SUMMARY, zero), zero)

    def apply(state: MetaState, gathered: Gathered) -> tuple[MetaState, Gathered]:
        noise = signal_to_noise(gathered.gradient, gathered.variance)
        summary = {**gathered.metrics, "signal_to_noise": noise, "tasks": gathered.tasks}
        state = outer.step(state, gathered.gradient, summary)
        return state, jax.tree.map(jnp.zeros_like, gathered)

    def report(state: MetaState, rows: Mapping[str, Any]) -> Metrics:
        metrics = dict(outer.metrics(state))
        for task, (total, row) in rows.items():
            total = jnp.where(row == (state.step - 1) // log_every, total, 0)
            metrics |= {f"{name}/{task}": total[i] / total[-1] for i, name in enumerate(OF_TASK)}
            metrics[f"windows/{task}"] = total[-1]
        return metrics

    return Programs(
        estimates={
            name: jax.jit(
                _estimate(i, at, log_every),
                donate_argnums=(0, 1),
                in_shardings=(whole, shardings.estimator[name], *[whole] * 5),
                out_shardings=(whole, shardings.estimator[name], whole),
            )
            for i, (name, at) in enumerate(estimators.items())
        },
        apply=jax.jit(
            apply,
            donate_argnums=(0, 1),
            in_shardings=(rest, whole),
            out_shardings=(rest, whole),
        ),
        begin=jax.jit(begin, out_shardings=whole),
        report=jax.jit(report, in_shardings=(rest, whole), out_shardings=whole),
    )


def _estimate(index: int, estimator_at: EstimatorAt, log_every: int) -> Callable[..., Any]:
    """One window of one task, and what it adds to the update."""

    def estimate(
        gathered: Gathered,
        task: TaskState,
        theta: Theta,
        step: jax.Array,
        key: jax.Array,
        share: jax.Array,
        data: Data,
    ) -> tuple[Gathered, TaskState, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(key, step), index)
        gradient, state, info = estimator_at(step).step(key, theta, task.estimator, data)
        metrics = summarize(info)
        of_task = {**metrics, "meta_gradient_norm": optax.tree.norm(gradient)}
        row = step // log_every
        new = jnp.stack([*(of_task[name] for name in OF_TASK), jnp.ones(())])
        task = TaskState(state, new + jnp.where(task.row == row, task.sums, 0), row)
        gathered = Gathered(
            jax.tree.map(
                lambda total, g: total + (share * g).astype(g.dtype), gathered.gradient, gradient
            ),
            gathered.variance + share**2 * info.variance,
            {
                name: total + metrics[name] * (1 if name in COUNTED else share)
                for name, total in gathered.metrics.items()
            },
            gathered.tasks + 1,
        )
        return gathered, task, metrics["meta_loss"]

    return estimate


def estimate_arguments(
    programs: Programs, state: MetaState, key: jax.Array, data: Mapping[str, Data]
) -> dict[str, tuple[Any, ...]]:
    """What the estimate of each task is compiled for, its own state second; in the order of the
    list, which is that of the shares: a state that comes out of a program has its names sorted.
    """
    gathered = jax.eval_shape(programs.begin)
    share = jax.ShapeDtypeStruct((), jnp.float32)
    return {
        name: (gathered, state.estimator[name], state.theta, state.step, key, share, data[name])
        for name in programs.estimates
    }


def _compile(
    programs: Programs, state: MetaState, key: jax.Array, data: Mapping[str, Data]
) -> Programs:
    """All programs compiled: traced one after the other, and compiled side by side meanwhile."""
    arguments = estimate_arguments(programs, state, key, data)
    rows = {name: (task.sums, task.row) for name, task in state.estimator.items()}
    rest = state._replace(estimator=())
    with ThreadPoolExecutor(usable_cores()) as pool:
        estimates = {
            name: pool.submit(programs.estimates[name].lower(*of_task).compile)
            for name, of_task in arguments.items()
        }
        return Programs(
            {name: future.result() for name, future in estimates.items()},
            programs.apply.lower(rest, jax.eval_shape(programs.begin)).compile(),
            programs.begin.lower().compile(),
            programs.report.lower(rest, rows).compile(),
        )
