"""Training runs of one task with one optimizer, many at a time.

A run is a seed and a θ: its task, initial parameters and minibatches come from the seed
alone, so that the runs of two optimizers with one seed are a pair.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import LearnedOptimizer
from meta_train.parallel import default_block, device_mesh, replicated, split_leading, split_rows
from meta_train.problems.optimizer_training import optimizer_training
from tasks import TaskFamily

RUNS_AT_ONCE = 32
POINTS = 20  # of a curve, in one horizon
EXAMPLES = 1_000  # of a split, to score with
SCORED_SPLITS = ("outer_validation", "test")
EVALUATION_KEY = 0x6576616C  # sets these runs apart from those of meta-training


class RunSpec(NamedTuple):
    """A seed, the rule's θ (NumPy), and how many inner steps to train for."""

    seed: int
    theta: Any
    steps: int


class Curve(NamedTuple):
    """Losses of one run at P points of training; not finite where it diverged.

    ``steps`` [P]: inner steps done, from 0 on; ``outer_validation``, ``test`` [P]: loss on
    the same examples at every point; ``train`` [P]: mean minibatch loss since the point
    before, NaN at the start.
    """

    steps: np.ndarray
    outer_validation: np.ndarray
    test: np.ndarray
    train: np.ndarray


class _Rows(NamedTuple):
    """Runs side by side, each leaf [RUNS_AT_ONCE, …]; ``length``: their steps in all;
    ``total``: sum of minibatch losses.
    """

    key: jax.Array
    theta: Any
    length: jax.Array
    state: Any
    total: jax.Array


class Trainer:
    """Trains runs of a family with a rule: one program for any θ, seed and length."""

    def __init__(
        self,
        family: TaskFamily,
        splits: Mapping[str, Any],
        optimizer: LearnedOptimizer,
        *,
        horizon: int,
    ):
        """``horizon``: inner steps over which a curve has `POINTS` points."""
        self._interval = max(1, math.ceil(horizon / POINTS))
        mesh = device_mesh(RUNS_AT_ONCE)
        self._rows, self._whole = split_leading(mesh), replicated(mesh)
        self._data = jax.device_put(
            {
                "train": splits["train"],
                "scored": {s: family.examples(splits[s], EXAMPLES) for s in SCORED_SPLITS},
            },
            self._whole,
        )
        self._init_theta = optimizer.init
        problem = optimizer_training(family, optimizer)
        root = jax.random.key(0)
        self._state = jax.eval_shape(lambda: problem.init(root, optimizer.init(root)))

        def advance(row: _Rows, shared: tuple[Any, jax.Array, jax.Array]) -> tuple[Any, Any]:
            data, done, count = shared
            start = jax.lax.cond(
                done == 0,
                lambda: (
                    problem.begin(jax.random.fold_in(row.key, 0), row.theta, row.length),
                    0 * row.total,
                ),
                lambda: (row.state, row.total),
            )

            def step(i: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
                key = jax.random.fold_in(row.key, 1 + done + i)
                state, loss = problem.step(key, row.theta, carry[0], {"train": data["train"]})
                return state, carry[1] + loss

            state, total = jax.lax.fori_loop(0, count, step, start)
            task = family.build(state.configuration)
            losses = {
                split: task.loss(state.params, state.model_state, row.key, batch)[0]
                for split, batch in data["scored"].items()
            }
            return (state, total), losses

        layout = split_rows(mesh, default_block(RUNS_AT_ONCE // mesh.size))
        self._advance = jax.jit(
            layout.spread(lambda rows, shared: jax.vmap(advance, in_axes=(0, None))(rows, shared))
        )
        self._compiled: Any = None

    def compile(self) -> None:
        """Compile ahead of the first call, in a thread of its own perhaps."""
        theta = jax.tree.map(np.asarray, self._init_theta(jax.random.key(0)))
        rows = self._begin([RunSpec(0, theta, 0)] * RUNS_AT_ONCE)
        self._compiled = self._advance.lower(rows, self._shared(0, 0)).compile()

    def train(self, specs: Sequence[RunSpec]) -> list[Curve]:
        """The curve of every run, in the order given."""
        if self._compiled is None:
            self.compile()
        order = sorted(range(len(specs)), key=lambda i: specs[i].steps)
        curves: dict[int, Curve] = {}
        for first in range(0, len(order), RUNS_AT_ONCE):
            chosen = order[first : first + RUNS_AT_ONCE]
            filled = [specs[i] for i in chosen] + [specs[chosen[-1]]] * (RUNS_AT_ONCE - len(chosen))
            curves |= zip(chosen, self._train_together(filled), strict=False)
        return [curves[i] for i in range(len(specs))]

    def _train_together(self, specs: Sequence[RunSpec]) -> list[Curve]:
        rows = self._begin(specs)
        longest = max(spec.steps for spec in specs)
        points = sorted({*range(0, longest, self._interval), *(spec.steps for spec in specs)})
        losses = []
        for before, after in zip([0, *points], points, strict=False):
            (state, total), loss = self._compiled(rows, self._shared(before, after - before))
            rows = rows._replace(state=state, total=total)
            losses.append({**loss, "train": total})
        stacked = jax.tree.map(lambda *x: np.stack(x, axis=1), *jax.device_get(losses))
        return [
            self._curve(np.asarray(points), {k: v[i] for k, v in stacked.items()}, spec.steps)
            for i, spec in enumerate(specs)
        ]

    def _curve(self, points: np.ndarray, losses: dict[str, np.ndarray], steps: int) -> Curve:
        """The points of one run, without those that only its company has."""
        own = (points == steps) | ((points < steps) & (points % self._interval == 0))
        points, losses = points[own], {name: values[own] for name, values in losses.items()}
        totals = losses.pop("train").astype(float)
        train = np.full(len(points), np.nan)
        with np.errstate(invalid="ignore"):  # of a run that diverged
            train[1:] = np.diff(totals) / np.diff(points)
        return Curve(steps=points, train=train, **losses)

    def _begin(self, specs: Sequence[RunSpec]) -> _Rows:
        root = jax.random.key(EVALUATION_KEY)
        keys = jax.vmap(lambda seed: jax.random.fold_in(root, seed))(
            np.asarray([spec.seed for spec in specs])
        )
        theta = jax.tree.map(lambda *x: np.stack(x), *[spec.theta for spec in specs])
        state = jax.tree.map(lambda x: np.zeros((len(specs), *x.shape), x.dtype), self._state)
        length = np.asarray([max(spec.steps, 1) for spec in specs], np.int32)
        rows = _Rows(keys, theta, jnp.asarray(length), state, jnp.zeros(len(specs), jnp.float32))
        return jax.device_put(rows, self._rows)

    def _shared(self, done: int, count: int) -> tuple[Any, jax.Array, jax.Array]:
        return (
            self._data,
            jax.device_put(np.int32(done), self._whole),
            jax.device_put(np.int32(count), self._whole),
        )
