"""What an optimizer costs beside Adam, on a task, in the same turns of the same process.

update      `tx.update` and `optax.apply_updates` alone, on the parameters of the task, of gradients
            that are a multiple of them
step        gradient of a minibatch, update and all: a training step as evaluation makes it
state       bytes of optimizer state for each parameter
compile     seconds to trace and compile the training steps, without the persistent cache

Updates and steps are of one run on one device, `STEPS` of them in a call; evaluation trains many
runs at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.benchmark import take_turns
from meta_train.compilation_cache import without_cache
from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.contestant import FIRST_SCHEDULE, Contestant
from meta_train.evaluate.runs import bytes_of
from meta_train.evaluate.store import number
from meta_train.problems.optimizer_training import optimizer_training
from meta_train.runtime import machine
from tasks import TaskFamily

TURNS = 15
STEPS = 20  # in one call, so that what a call costs is not that of a step


def measure_costs(
    family: TaskFamily, splits: Mapping[str, Any], contestants: Sequence[Contestant], horizon: int
) -> list[dict[str, Any]]:
    """A row for each contestant, the reference among them: microseconds are medians of turns, and
    ratios those of a turn to the reference's.
    """
    key = jax.random.key(0)
    params, _ = family.build(family.sample(key)).init(key)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    updates, steps, compiled, state_bytes = [], [], [], []
    for contestant in contestants:
        theta = contestant.theta(_first(contestant, horizon))
        tx = contestant.optimizer.build(theta, num_steps=horizon)
        updates.append(_updating(tx, params))
        state_bytes.append(bytes_of(jax.eval_shape(tx.init, params)) / size)
        call, seconds = _training(family, splits, contestant, theta, horizon)
        steps.append(call)
        compiled.append(seconds)
    taken = take_turns([*updates, *steps], TURNS) / STEPS
    of_updates, of_steps = taken[: len(updates)], taken[len(updates) :]
    place = [contestant.name for contestant in contestants].index(REFERENCE)
    return [
        {
            "contestant": contestant.name,
            "update_us": number(1e6 * float(np.median(of_updates[i]))),
            "step_us": number(1e6 * float(np.median(of_steps[i]))),
            "update_ratio": number(float(np.median(of_updates[i] / of_updates[place]))),
            "step_ratio": number(float(np.median(of_steps[i] / of_steps[place]))),
            "state_bytes": number(state_bytes[i]),
            "compile_seconds": number(compiled[i]),
            "machine": f"{machine()}; {jax.devices()[0].device_kind}",
        }
        for i, contestant in enumerate(contestants)
    ]


def _first(contestant: Contestant, horizon: int) -> Mapping[str, float]:
    if not contestant.variants:
        return {}
    rate = FIRST_SCHEDULE["learning_rate"]
    return contestant.settings(next(iter(contestant.variants)), rate, horizon)


def _updating(tx: optax.GradientTransformationExtraArgs, params: Any) -> Callable[[], Any]:
    """A call that makes `STEPS` updates, going on from the last."""

    def updates(carry: Any) -> Any:
        def update(_: Any, carry: Any) -> Any:
            params, state = carry
            # of the parameters, so that nothing of a step can be made before all of them
            gradients = jax.tree.map(lambda p: 0.01 * p + 1e-4, params)
            updates, state = tx.update(gradients, state, params, value=jnp.float32(1))
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, STEPS, update, carry)

    program = jax.jit(updates, donate_argnums=0)
    held = [jax.tree.map(lambda x: jnp.array(x, copy=True), (params, tx.init(params)))]

    def call() -> Any:
        held[0] = program(held[0])
        return held[0]

    return call


def _training(
    family: TaskFamily,
    splits: Mapping[str, Any],
    contestant: Contestant,
    theta: Any,
    horizon: int,
) -> tuple[Callable[[], Any], float]:
    """A call that makes `STEPS` training steps, going on from the last; and seconds to compile."""
    problem = optimizer_training(family, contestant.optimizer)
    data = jax.device_put({"train": splits["train"]})
    theta = jax.device_put(theta)

    def steps(state: Any, key: jax.Array, theta: Any, data: Any) -> tuple[Any, jax.Array]:
        def step(i: jax.Array, state: Any) -> Any:
            return problem.step(jax.random.fold_in(key, i), theta, state, data)[0]

        return jax.lax.fori_loop(0, STEPS, step, state), jax.random.fold_in(key, STEPS)

    key = jax.random.key(1)
    state = jax.jit(problem.begin)(key, theta, jnp.int32(horizon))
    with without_cache():
        started = time.perf_counter()
        program = jax.jit(steps, donate_argnums=0).lower(state, key, theta, data).compile()
        seconds = time.perf_counter() - started
    held = [(state, key)]

    def call() -> Any:
        held[0] = program(*held[0], theta, data)
        return held[0]

    return call, seconds


def with_pay(
    rows: Sequence[Mapping[str, Any]],
    needed: Mapping[str, float | None],
    horizon: int,
    seconds: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """The rows with what a learned optimizer saves in time.

    Args:
      rows: of `measure_costs` for one task.
      needed: {learned optimizer: horizons that the reference takes to its final loss}.
      horizon: steps of a run of ours.
      seconds: {learned optimizer: of its meta-training, None where its manifest does not say}.

    ``wall_clock_speedup``: those horizons ÷ the ratio of the steps' times; ``break_even``:
    after how many runs like this the time saved is that of meta-training, "never" where a run
    saves none; tuning of the reference is not counted.
    """
    adam = next(row["step_us"] for row in rows if row["contestant"] == REFERENCE)
    found = []
    for row in rows:
        name = row["contestant"]
        more: dict[str, Any] = {}
        horizons = needed.get(name)
        if horizons is not None:
            more["wall_clock_speedup"] = number(horizons / row["step_ratio"])
            saved = 1e-6 * horizon * (horizons * adam - row["step_us"])
            spent = seconds.get(name)
            if saved <= 0:
                more["break_even"] = "never"
            elif spent is not None:
                more["break_even"] = f"{int(np.ceil(spent / saved)):,}"
        found.append({**row, **more})
    return found
