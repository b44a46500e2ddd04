"""What a learned optimizer does: its updates over time, its response to g and m, what it looks at.

trajectory   of a run on a task: the RMS of its update, of the step that tuned Adam would make of
             the same gradients, the cosine of the two, and ‖ours − Adam's‖ / ‖Adam's‖
response     of a tensor of `ENTRIES` entries: after `WARM` gradients from N(0, 1), the update of an
             entry against its last gradient; after `WARM` gradients from N(m, 1) and then none, the
             update against m. In units of the RMS of all updates; Adam's beside it
ablation     the final loss without a group of inputs ÷ that with all
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.evaluate.contestant import Contestant, Settings
from meta_train.evaluate.report.rows import estimate_of
from meta_train.evaluate.running import Run
from meta_train.evaluate.runs import RunSpec, run_key
from meta_train.evaluate.scores import SMALLEST_LOSS, final_losses
from meta_train.evaluate.store import number
from meta_train.evaluate.varied import input_groups, settings_of, varied
from meta_train.problems.optimizer_training import optimizer_training
from tasks import TaskFamily

POINTS = 40
ENTRIES, WARM = 129, 50
WIDEST = 4.0  # gradients and means of the response, in units of the noise
ABLATION_SEEDS = 5


def trajectory(
    family: TaskFamily,
    splits: Mapping[str, Any],
    learned: Contestant,
    reference: Contestant,
    settings: Settings,
    steps: int,
) -> dict[str, Any]:
    """One run (seed 0) of `POINTS` points; ``settings``: the reference's, tuned."""
    problem = optimizer_training(family, learned.optimizer)
    adam = reference.optimizer.build(reference.theta(settings))
    theta = jax.device_put(learned.theta({}))
    data = jax.device_put({"train": splits["train"]})
    key = run_key(family.name, steps, 0)

    def run(theta: Any, data: Any) -> Any:
        state = problem.begin(jax.random.fold_in(key, 0), theta, jnp.int32(steps))
        task = family.build(state.configuration)

        def step(carry: Any, i: jax.Array) -> Any:
            state, adam_state = carry
            key_step = jax.random.fold_in(key, 1 + i)
            key_batch, key_loss, _ = jax.random.split(key_step, 3)
            batch = family.training_batch(key_batch, data["train"])
            _, gradient = task.value_and_gradient(state.params, state.model_state, key_loss, batch)
            theirs, adam_state = adam.update(gradient, adam_state, state.params)
            after, _ = problem.step(key_step, theta, state, data)
            ours = optax.tree.sub(after.params, state.params)
            size = sum(leaf.size for leaf in jax.tree.leaves(ours))
            norms = optax.tree.norm(ours), optax.tree.norm(theirs)
            cosine = optax.tree.vdot(ours, theirs) / (norms[0] * norms[1] + 1e-30)
            distance = optax.tree.norm(optax.tree.sub(ours, theirs)) / (norms[1] + 1e-30)
            rms = [norm / jnp.sqrt(size) for norm in norms]
            return (after, adam_state), jnp.stack([*rms, cosine, distance])

        carry = state, adam.init(state.params)
        return jax.lax.scan(step, carry, jnp.arange(steps))[1]

    measured = np.asarray(jax.jit(run)(theta, data), float)
    edges = np.unique(np.linspace(0, steps, min(POINTS, steps) + 1).astype(int))
    means = [measured[a:b].mean(axis=0) for a, b in pairwise(edges)]
    columns = zip(*means, strict=True)
    names = ("rms", "adam_rms", "cosine", "distance")
    return {"steps": edges[1:].tolist()} | {
        name: [number(x) for x in column] for name, column in zip(names, columns, strict=True)
    }


def response(
    learned: Contestant, reference: Contestant, settings: Settings, steps: int
) -> dict[str, Any]:
    """Updates against the last gradient and against the mean of gradients."""
    grid = np.linspace(-WIDEST, WIDEST, ENTRIES).astype(np.float32)
    noise = jax.random.normal(jax.random.key(0), (WARM, ENTRIES))
    made = {
        "ours": learned.optimizer.build(learned.theta({}), num_steps=steps),
        "adam": reference.optimizer.build(reference.theta(settings)),
    }
    found: dict[str, Any] = {"grid": [number(x) for x in grid]}
    for name, tx in made.items():
        to_gradient = _last_update(tx, jnp.concatenate([noise, grid[None]]))
        means = jnp.concatenate([noise + grid[None], 0 * grid[None]])
        found[name] = {
            "gradient": [number(x) for x in to_gradient],
            "momentum": [number(x) for x in _last_update(tx, means)],
        }
    return found


def _last_update(tx: optax.GradientTransformationExtraArgs, gradients: jax.Array) -> np.ndarray:
    """In units of its RMS; of a matrix of one column, whose parameters are from N(0, 1)."""
    shape = (ENTRIES, 1)
    params = {"w": jax.random.normal(jax.random.key(1), shape)}

    @jax.jit
    def run(gradients: jax.Array) -> jax.Array:
        def step(carry: Any, gradient: jax.Array) -> Any:
            params, state = carry
            updates, state = tx.update(
                {"w": gradient.reshape(shape)}, state, params, value=jnp.float32(1)
            )
            return (optax.apply_updates(params, updates), state), updates["w"]

        return jax.lax.scan(step, (params, tx.init(params)), gradients)[1][-1].ravel()

    last = np.asarray(run(gradients), float)
    return last / max(float(np.sqrt(np.mean(last**2))), 1e-30)


def ablation(run: Run, learned: Contestant, steps: int, seeds: int) -> list[dict[str, Any]]:
    """A row for each group of inputs; none where the rule has no network over inputs, or diverges
    with all of them.
    """
    groups = list(input_groups(learned.optimizer))
    if not groups:
        return []
    chosen: Sequence[int] = range(min(seeds, ABLATION_SEEDS))
    specs = [
        RunSpec(seed, settings_of(ablated=float(group)), steps)
        for group in range(-1, len(groups))
        for seed in chosen
    ]
    losses = final_losses(run(varied(learned), "ablation", specs)).reshape(-1, len(chosen))
    losses = losses[:, np.isfinite(losses[0])]  # where it diverges anyway nothing is seen
    if not losses.size:
        return []
    whole = np.maximum(losses[0], SMALLEST_LOSS)
    rows = []
    for name, own in zip(groups, losses[1:], strict=True):
        diverged = int((~np.isfinite(own / whole)).sum())
        ratio = None if diverged else estimate_of([own / whole])
        rows.append({"inputs": name, "ratio": ratio, "diverged": diverged})
    return rows
