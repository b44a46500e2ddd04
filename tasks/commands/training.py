"""One training run of one task, with its curves."""

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tasks.base import Arrays, TaskFamily

SCORED = 1_000
POINTS = 50


class Curves(NamedTuple):
    """``train`` [steps]: the loss of every minibatch; ``test`` [points], ``accuracy`` [points] or
    None: on `SCORED` test examples after ``steps`` [points]; ``seconds`` of one step, compiled.
    """

    train: np.ndarray
    steps: np.ndarray
    test: np.ndarray
    accuracy: np.ndarray | None
    seconds: float


def train(
    family: TaskFamily,
    splits: Mapping[str, Arrays],
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    steps: int,
    seed: int,
) -> Curves:
    """Train the task of ``seed`` for ``steps``; two runs of a seed see the same minibatches."""
    every = math.ceil(steps / POINTS)
    key = jax.random.key(seed)
    task = family.build(family.sample(jax.random.fold_in(key, 0)))
    params, model_state = task.init(jax.random.fold_in(key, 1))
    scored = family.examples(splits["test"], SCORED)

    @jax.jit
    def score(params: Any, model_state: Any) -> Any:
        loss, (_, metrics) = task.loss(params, model_state, jax.random.fold_in(key, 3), scored)
        return loss, metrics.get("accuracy", jnp.nan)

    @partial(jax.jit, static_argnames="count")
    def advance(carry: Any, first: jax.Array, arrays: Arrays, count: int) -> Any:
        def step(carry: Any, number: jax.Array) -> Any:
            params, model_state, state = carry
            key_batch, key_loss = jax.random.split(jax.random.fold_in(key, 4 + number))
            batch = family.batch(key_batch, arrays)
            (loss, (model_state, _)), gradient = task.value_and_gradient(
                params, model_state, key_loss, batch
            )
            updates, state = optimizer.update(gradient, state, params, value=loss)
            return (optax.apply_updates(params, updates), model_state, state), loss

        return jax.lax.scan(step, carry, first + jnp.arange(count))

    carry = (params, model_state, optimizer.init(params))
    scores, losses, at, seconds = [score(params, model_state)], [], [0], math.inf
    for first in range(0, steps, every):
        start, count = time.perf_counter(), min(every, steps - first)
        carry, some = jax.block_until_ready(
            advance(carry, np.int32(first), splits["train"], count=count)
        )
        seconds = min(seconds, (time.perf_counter() - start) / count)
        losses.append(some)
        scores.append(score(*carry[:2]))
        at.append(first + count)
    test, accuracy = np.asarray(scores, float).T
    known = None if np.isnan(accuracy).all() else accuracy
    return Curves(np.concatenate(losses), np.asarray(at), test, known, seconds)
