"""What one update of every estimator costs, beside the bare unroll of the same particles:

python -m meta_train.benchmark.estimators

The problem is that of the preset `demo`. The estimators and the bare unroll take turns, so
that a busy machine slows them alike; what is shown are medians over the turns.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.benchmark import take_turns
from meta_train.assemble import Run, assemble
from meta_train.benchmark.throughput import caller
from meta_train.command_line import run_command, say
from meta_train.config import MetaTrainConfig
from meta_train.parallel import replicated, split_leading, split_rows
from meta_train.presets import DEMO
from meta_train.problem import UnrolledProblem
from meta_train.problems.optimizer_training import optimizer_training
from meta_train.runtime import set_up_jax

TURNS = 15
UPDATES = 5  # a call
ESTIMATORS_SHOWN = (
    {"estimator": "pes"},
    {"estimator": "nres"},
    {"estimator": "gpes", "noise_period": 20},
    {"estimator": "truncated_es"},
    {"estimator": "pes_analytic"},
    {"estimator": "truncated_backprop"},
    {"estimator": "uoro"},
    {"estimator": "dodge"},
)  # rtrl would carry θ's 2,000 copies of every inner state


class Contestant(NamedTuple):
    """``call() -> `` something to wait for; ``temporary``, ``state``: bytes."""

    name: str
    call: Callable[[], Any]
    temporary: int
    state: int


class Cost(NamedTuple):
    """Seconds of one update, its ratio to the bare unroll, and bytes."""

    name: str
    seconds: float
    ratio: float
    temporary: int
    state: int


def updates_of(config: MetaTrainConfig) -> Contestant:
    """The compiled meta-step of a configuration, `UPDATES` of them a call."""
    run = assemble(config)
    state = run.training.init(run.key_init)
    count = jnp.asarray(UPDATES, jnp.int32)
    compiled = run.training.advance.lower(state, count, run.key_updates, run.data).compile()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.estimator))
    return Contestant(
        config.estimator, caller(run, compiled, state, UPDATES), _temporary(compiled), size
    )


def bare_unroll(config: MetaTrainConfig) -> Contestant:
    """The same particles, each with a θ and an inner state of its own, and no estimator."""
    run = assemble(config)
    problem = optimizer_training(run.family, run.optimizer, meta_loss=config.meta_loss)
    pairs, whole = config.particles // 2, replicated(run.mesh)
    keys = jax.random.split(run.key_init, 2 * pairs).reshape(pairs, 2)
    thetas = jax.vmap(jax.vmap(run.optimizer.init))(keys)
    inner = jax.vmap(jax.vmap(problem.init))(keys, thetas)
    inner = jax.device_put(inner, split_leading(run.mesh))
    unroll = jax.jit(
        _windows(problem, config, run),
        donate_argnums=0,
        out_shardings=(split_leading(run.mesh), whole),
    )
    arguments = (*jax.device_put((thetas, keys), whole), run.data)
    compiled = unroll.lower(inner, *arguments).compile()
    held = [inner]

    def call() -> Any:
        held[0], losses = compiled(held[0], *arguments)
        return losses

    size = sum(leaf.nbytes for leaf in jax.tree.leaves(inner))
    return Contestant("bare unroll", call, _temporary(compiled), size)


def _temporary(compiled: Any) -> int:
    """Bytes that the program needs beside its arguments and results."""
    return compiled.memory_analysis().temp_size_in_bytes


def _windows(problem: UnrolledProblem, config: MetaTrainConfig, run: Run) -> Callable[..., Any]:
    """`UPDATES` windows of all particles: the inner states after, and their mean losses."""
    layout = split_rows(run.mesh, run.block)

    def one(state: Any, theta: Any, key: jax.Array, data: Any) -> tuple[Any, jax.Array]:
        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            return problem.step(key, theta, state, data)

        state, losses = jax.lax.scan(step, state, jax.random.split(key, config.window))
        return state, losses.mean()

    def block(rows: tuple[Any, Any, jax.Array], data: Any) -> tuple[Any, jax.Array]:
        particles = jax.vmap(jax.vmap(one, in_axes=(0, 0, 0, None)), in_axes=(0, 0, 0, None))
        return particles(rows[0], rows[1], rows[2], data)

    def windows(inner: Any, thetas: Any, keys: jax.Array, data: Any) -> tuple[Any, jax.Array]:
        def body(i: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            folded = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, i)))(keys)
            inner, losses = layout.spread(block)((carry[0], thetas, folded), data)
            return inner, layout.everywhere(losses)

        return jax.lax.fori_loop(0, UPDATES, body, (inner, jnp.zeros(keys.shape)))

    return windows


def compare(bare: Contestant, others: Sequence[Contestant], turns: int = TURNS) -> list[Cost]:
    """Let all of them take turns; ratios are to the bare unroll of the same turn."""
    everyone = [bare, *others]
    seconds = take_turns([contestant.call for contestant in everyone], turns) / UPDATES
    return [
        Cost(
            contestant.name,
            float(np.median(of_one)),
            float(np.median(of_one / seconds[0])),
            contestant.temporary,
            contestant.state,
        )
        for contestant, of_one in zip(everyone, seconds, strict=True)
    ]


def main() -> None:
    """Measure, and print a table."""
    set_up_jax()
    bare = bare_unroll(DEMO)
    contestants = []
    for changes in ESTIMATORS_SHOWN:
        say(f"compiling {changes['estimator']} …")
        contestants.append(updates_of(dataclasses.replace(DEMO, **changes)))
    print(f"{'estimator':<20}{'ms an update':>14}{'÷ bare':>9}{'state MB':>10}{'temp. MB':>10}")
    for cost in compare(bare, contestants):
        print(
            f"{cost.name:<20}{1e3 * cost.seconds:>14.2f}{cost.ratio:>9.2f}"
            f"{cost.state / 1e6:>10.2f}{cost.temporary / 1e6:>10.2f}"
        )


if __name__ == "__main__":
    run_command(main)
