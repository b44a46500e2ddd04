"""Training runs of one task with one optimizer: all of them in one compiled call.

A run is a seed and settings: its task, initial parameters and minibatches come from the seed
alone, so that the runs of two optimizers with one seed are a pair. Those of two tasks with one seed
have nothing in common: intervals resample the seeds of every task by themselves.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.evaluate.contestant import Contestant, Settings
from meta_train.memory import bytes_of_a_device, needed_bytes
from meta_train.parallel import (
    default_block,
    device_mesh,
    replicated,
    row_devices,
    split_leading,
    split_rows,
)
from meta_train.problems.optimizer_training import optimizer_training
from tasks import TaskFamily

RUNS_AT_ONCE = 128
LARGEST_STATES = 1 << 30  # bytes, of all runs of a call
SHARE = 0.5  # of a device's memory, for what is predicted: compilers take up to twice as much
POINTS = 20  # of a curve, in one horizon
EXAMPLES = 1_000  # of a split, to score with
SCORED_SPLITS = ("outer_validation", "test")
EVALUATION_KEY = 0x6576616C  # sets these runs apart from those of meta-training


class RunSpec(NamedTuple):
    """A seed, the contestant's settings, how many inner steps to train for, and whether the
    losses on the way are wanted, or those of the end alone.
    """

    seed: int
    settings: Settings
    steps: int
    curve: bool = True


class Curve(NamedTuple):
    """Losses of one run at P points of training; NaN where it diverged.

    ``steps`` [P]: inner steps done, from 0 on; ``outer_validation``, ``test`` [P]: loss on
    the same examples at every point; ``train`` [P]: mean minibatch loss since the point
    before, NaN at the start.
    """

    steps: np.ndarray
    outer_validation: np.ndarray
    test: np.ndarray
    train: np.ndarray


class _Row(NamedTuple):
    """A run on its way, or many with a leading axis; ``length``: its steps in all; ``done`` of
    them; ``total``: sum of minibatch losses since the last stop; ``fresh``: it has yet to begin.
    """

    key: Any
    theta: Any
    length: Any
    done: Any
    total: Any
    state: Any
    fresh: Any


class _Stops(NamedTuple):
    """Where to go and look next, [rows, POINTS + 1]: steps done in all, and whether to score."""

    until: Any
    scored: Any


def run_key(family: str, horizon: int, seed: Any) -> jax.Array:
    """All that is random in the run of a seed, on a family with a horizon."""
    root = jax.random.key(EVALUATION_KEY)
    return jax.random.fold_in(
        jax.random.fold_in(root, zlib.crc32(f"{family} @ {horizon}".encode())), seed
    )


def data_of(family: TaskFamily, splits: Mapping[str, Any]) -> Any:
    """What trainers of a family read, on the devices of this process: once for all of them."""
    scored = {s: family.examples(splits[s], EXAMPLES) for s in SCORED_SPLITS}
    whole = replicated(device_mesh(jax.local_device_count(), jax.local_devices()))
    return jax.device_put({"train": splits["train"], "scored": scored}, whole)


class Trainer:
    """Trains runs of a family with a contestant: one program for any settings, seed and length."""

    def __init__(
        self,
        family: TaskFamily,
        data: Any,
        contestant: Contestant,
        *,
        horizon: int,
        most: int = RUNS_AT_ONCE,
    ):
        """``data``: of `data_of`; ``horizon``: inner steps over which a curve has `POINTS` points;
        ``most``: runs of a call.
        """
        self._horizon = horizon
        self._interval = max(1, math.ceil(horizon / POINTS))
        self._contestant = contestant
        self._problem = optimizer_training(family, contestant.optimizer)
        self._family = family
        root = jax.random.key(0)
        theta = contestant.optimizer.init(root)
        self._theta = jax.tree.map(np.asarray, theta)
        self._state = jax.eval_shape(lambda: self._problem.init(root, theta))
        self.rows = rows_at_once(bytes_of(self._state), most)
        mesh = device_mesh(self.rows, jax.local_devices())
        self._devices = row_devices(mesh)
        self._split, self._data = split_leading(mesh), data
        self._mesh = mesh
        self._compiled: Any = None

    def compile(self) -> None:
        """Compile ahead of the first call, in a thread of its own perhaps."""
        if self._compiled is None:
            empty = np.zeros((self.rows, POINTS + 1))
            rows = self._begin([None] * self.rows), _Stops(empty.astype(np.int32), empty > 0)
            self._compiled = self._fitting(jax.device_put(rows, self._split)).lower().compile()

    def _fitting(self, rows: Any) -> Any:
        """The traced program, of as many rows at a time as half of a device's memory holds."""
        each = self.rows // self._devices
        for block in (n for n in range(default_block(each), 0, -1) if each % n == 0):
            traced = self._program(block).trace(rows, self._data)
            if block == 1 or self._fits(traced, rows):
                break
        return traced

    def _fits(self, traced: Any, rows: Any) -> bool:
        room = bytes_of_a_device(jax.local_devices())
        shardings = jax.tree.map(lambda _: self._split, rows)
        return room is None or (
            needed_bytes(traced, (rows, shardings), [self._data]) <= SHARE * room
        )

    def _program(self, block: int) -> Any:
        advance = self._advance_one if block == 1 else jax.vmap(self._advance, in_axes=(0, None))
        return jax.jit(split_rows(self._mesh, block).spread(advance), donate_argnums=0)

    def train(self, specs: Sequence[RunSpec]) -> list[Curve]:
        """The curve of every run, in the order given."""
        self.compile()
        order = sorted(range(len(specs)), key=lambda i: specs[i].steps)
        curves: dict[int, Curve] = {}
        for first in range(0, len(order), self.rows):
            chosen = order[first : first + self.rows]
            curves |= zip(chosen, self._train_together([specs[i] for i in chosen]), strict=True)
        return [curves[i] for i in range(len(specs))]

    def _train_together(self, specs: Sequence[RunSpec]) -> list[Curve]:
        """Runs that fit into one call; as many calls as the longest has points for."""
        places = self._dealt(len(specs))
        held: list[RunSpec | None] = [None] * self.rows
        for place, spec in zip(places, specs, strict=True):
            held[place] = spec
        points = [self._points(spec) for spec in specs]
        rows = jax.device_put(self._begin(held), self._split)
        parts = []
        for first in range(0, max(map(len, points)), POINTS + 1):
            stops = jax.device_put(self._stops(places, points, first), self._split)
            rows, losses = self._compiled((rows, stops), self._data)
            parts.append(losses)
        losses = {
            name: np.concatenate([np.asarray(part[name]) for part in parts], axis=1)
            for name in parts[0]
        }
        return [
            _curve(own, {name: values[place, : len(own)] for name, values in losses.items()})
            for own, place in zip(points, places, strict=True)
        ]

    def _dealt(self, count: int) -> list[int]:
        """Rows for runs in the order of their lengths: each device gets some of every length."""
        each = self.rows // self._devices
        return [i % self._devices * each + i // self._devices for i in range(count)]

    def _points(self, spec: RunSpec) -> list[int]:
        return [*range(0, spec.steps, self._interval), spec.steps] if spec.curve else [spec.steps]

    def _stops(self, places: Sequence[int], points: Sequence[Sequence[int]], first: int) -> _Stops:
        """Those of a call, from the ``first`` point of every run on."""
        until = np.zeros((self.rows, POINTS + 1), np.int32)
        scored = np.zeros((self.rows, POINTS + 1), bool)
        for place, own in zip(places, points, strict=True):
            here = own[first : first + POINTS + 1]
            until[place] = own[-1]
            until[place, : len(here)] = here
            scored[place, : len(here)] = True
        return _Stops(until, scored)

    def _begin(self, specs: Sequence[RunSpec | None]) -> _Row:
        """Rows that have yet to begin; what stands for no run trains for no step."""
        seeds = np.asarray([spec.seed if spec else 0 for spec in specs])
        thetas = [self._contestant.theta(s.settings) if s else self._theta for s in specs]
        length = np.asarray([max(spec.steps, 1) if spec else 1 for spec in specs], np.int32)
        count = len(specs)
        return _Row(
            key=jax.vmap(lambda seed: run_key(self._family.name, self._horizon, seed))(seeds),
            theta=jax.tree.map(lambda *x: np.stack(x), *thetas),
            length=length,
            done=np.zeros(count, np.int32),
            total=np.zeros(count, np.float32),
            state=jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), self._state),
            fresh=np.ones(count, bool),
        )

    def _advance_one(self, rows_and_stops: Any, data: Any) -> Any:
        """A block of one row without a vmap, which would compute both sides of every condition."""
        one = jax.tree.map(lambda x: x[0], rows_and_stops)
        return jax.tree.map(lambda x: x[None], self._advance(one, data))

    def _advance(self, row_and_stops: tuple[_Row, _Stops], data: Any) -> tuple[_Row, Any]:
        """One row from stop to stop, and its losses there [POINTS + 1]."""
        row, stops = row_and_stops
        state = jax.lax.cond(
            row.fresh,
            lambda: self._problem.begin(jax.random.fold_in(row.key, 0), row.theta, row.length),
            lambda: row.state,
        )

        def step(row: _Row) -> _Row:
            key = jax.random.fold_in(row.key, 1 + row.done)
            state, loss = self._problem.step(key, row.theta, row.state, {"train": data["train"]})
            return row._replace(state=state, total=row.total + loss, done=row.done + 1)

        def stop(row: _Row, stop: _Stops) -> tuple[_Row, Any]:
            row = jax.lax.while_loop(lambda row: row.done < stop.until, step, row)
            losses = jax.lax.cond(
                stop.scored,
                lambda: {s: self._loss(row, data["scored"][s]) for s in SCORED_SPLITS},
                lambda: {s: jnp.float32(jnp.nan) for s in SCORED_SPLITS},
            )
            return row._replace(total=jnp.zeros_like(row.total)), losses | {"train": row.total}

        return jax.lax.scan(stop, row._replace(state=state, fresh=jnp.zeros_like(row.fresh)), stops)

    def _loss(self, row: _Row, batch: Any) -> jax.Array:
        state = row.state
        params = self._contestant.scored(state.optimizer_state, state.params)
        task = self._family.build(state.configuration)
        return task.loss(params, state.model_state, row.key, batch)[0]


def rows_at_once(state_bytes: int, most: int) -> int:
    """Runs of a call: at most `LARGEST_STATES` bytes of state, and as many as are wanted.

    The same number for every device, and at least one, so that a large task takes more calls
    instead of more memory.
    """
    devices = jax.local_device_count()
    fit = max(1, LARGEST_STATES // max(state_bytes, 1))
    return max(min(-(-most // devices), fit // devices), 1) * devices


def bytes_of(tree: Any) -> int:
    """Of all arrays of a pytree, or of the shapes that stand for them."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _curve(points: Sequence[int], losses: Mapping[str, np.ndarray]) -> Curve:
    steps = np.asarray(points)
    since = np.diff(steps, prepend=0)
    train = np.where(since, np.asarray(losses["train"], float) / np.maximum(since, 1), np.nan)
    return Curve(steps, np.asarray(losses["outer_validation"]), np.asarray(losses["test"]), train)
