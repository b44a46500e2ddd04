"""Meta-training of small problems: every seed and all updates in one compiled call."""

import queue
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators import GradientEstimator
from meta_train.problem import Data, Theta

Metric = Callable[[Theta, Data], Any]
OneRun = Callable[[jax.Array, Theta, Data], tuple[Theta, Any]]
Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")


class History(NamedTuple):
    """What was recorded of several runs, as NumPy arrays.

    ``updates`` [points], the first 0; ``theta`` like θ and ``metric`` like the metric, with
    leading axes [seeds, points].
    """

    updates: np.ndarray
    theta: Theta
    metric: Any


def trajectory(
    estimator: GradientEstimator,
    optimizer: optax.GradientTransformation,
    metric: Metric,
    *,
    updates: int,
    every: int,
) -> OneRun:
    """A function (key, θ_0, data) -> (θ, metric) at updates 0, every, 2·every, …: one run.

    The key of update k is fold_in(root, k). It is pure: `jax.vmap` batches seeds or starts.

    Args:
      estimator: one update of θ takes one of its steps.
      optimizer: the outer optimizer.
      metric: a function of (θ, data). Where it draws, a key of its own, the same at every
        point, makes one test set for all points and runs.
      updates: a multiple of ``every``.
      every: updates between two points.

    Raises:
      ValueError: ``every`` does not divide ``updates``.
    """
    if every < 1 or updates % every:
        raise ValueError(
            f"`every`={every} does not divide `updates`={updates}; points are recorded at its "
            "multiples"
        )

    def run(key: jax.Array, theta: Theta, data: Data) -> tuple[Theta, Any]:
        key_init, root = jax.random.split(key)
        theta = jax.tree.map(jnp.asarray, theta)

        def update(k: jax.Array, carry: tuple) -> tuple:
            theta, outer, state = carry
            gradient, state, _ = estimator.step(jax.random.fold_in(root, k), theta, state, data)
            change, outer = optimizer.update(gradient, outer, theta)
            return optax.apply_updates(theta, change), outer, state

        def advance(carry: tuple, point: jax.Array) -> tuple:
            carry = jax.lax.fori_loop(point * every, (point + 1) * every, update, carry)
            return carry, (carry[0], metric(carry[0], data))

        carry = (theta, optimizer.init(theta), estimator.init(key_init, theta))
        recorded: Any = jax.lax.scan(advance, carry, jnp.arange(updates // every))[1]
        first = (theta, metric(theta, data))
        return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, recorded)

    return run


def one_by_one(function: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """As `jax.vmap`, one seed after another: a restart is then paid for only where it occurs."""
    return lambda keys: jax.lax.map(function, keys)


def run_seeds(
    estimator: GradientEstimator,
    optimizer: optax.GradientTransformation,
    metric: Metric,
    *,
    theta: Theta,
    data: Data = None,
    updates: int,
    every: int,
    seeds: int,
    over_seeds: Callable[[Callable], Callable] = jax.vmap,
) -> History:
    """Meta-train from ``theta`` with the seeds 0, 1, …: a `trajectory` for each of them.

    Args:
      estimator, optimizer, metric, updates, every: as of `trajectory`.
      theta: θ_0, the same for every seed.
      data: handed to the problem and to the metric.
      seeds: their number.
      over_seeds: how runs are batched: `jax.vmap`, or `one_by_one`.
    """
    run = trajectory(estimator, optimizer, metric, updates=updates, every=every)

    def all_seeds(keys: jax.Array, theta: Theta, data: Data) -> tuple[Theta, Any]:
        return over_seeds(lambda key: run(key, theta, data))(keys)

    recorded = jax.jit(all_seeds)(seed_keys(seeds), theta, data)
    return History(np.arange(0, updates + 1, every), *jax.device_get(recorded))


def seed_keys(seeds: int) -> jax.Array:
    """The keys of the seeds 0, 1, …: [seeds]."""
    return jax.vmap(jax.random.key)(jnp.arange(seeds))


def side_by_side(jobs: Mapping[Name, Callable[[], T]]) -> dict[Name, T]:
    """The results of the jobs, which run at the same time, one on every device.

    XLA compiles, and computes, outside Python's lock.
    """
    devices: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in jax.local_devices():
        devices.put(device)

    def on_a_device(job: Callable[[], T]) -> T:
        device = devices.get()
        try:
            with jax.default_device(device):
                return job()
        finally:
            devices.put(device)

    with ThreadPoolExecutor(devices.qsize()) as pool:
        futures = {name: pool.submit(on_a_device, job) for name, job in jobs.items()}
        return {name: future.result() for name, future in futures.items()}
