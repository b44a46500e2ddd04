"""How the rows of a batched computation are spread over devices, and in time on each.

The rows are the pairs of particles of an estimator, or the training runs of an evaluation.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from meta_train.estimators.base import Layout, RowFunction

AXIS = "rows"
BATCH_AXIS = "batch"


def device_mesh(
    rows: int, devices: Sequence[jax.Device] | None = None, *, batch_devices: int = 1
) -> Mesh:
    """A mesh of as many devices as divide the rows evenly, as many of every process.

    With ``batch_devices`` above 1, each is a group of so many of one process, along `BATCH_AXIS`.

    Raises:
      ValueError: the processes are more than the rows, or do not divide them.
    """
    of_processes = by_process(jax.devices() if devices is None else devices)
    fewest = min(map(len, of_processes)) // batch_devices
    counts = [n for n in range(1, fewest + 1) if rows % (n * len(of_processes)) == 0]
    if not counts:
        raise ValueError(f"{len(of_processes)} processes do not divide {rows} rows")
    taken = [d for own in of_processes for d in own[: counts[-1] * batch_devices]]
    if batch_devices == 1:
        return Mesh(np.asarray(taken), (AXIS,))
    return Mesh(np.asarray(taken).reshape(-1, batch_devices), (AXIS, BATCH_AXIS))


def by_process(devices: Sequence[jax.Device]) -> list[list[jax.Device]]:
    """The devices of each process, in the order of the processes."""
    found: dict[int, list[jax.Device]] = {}
    for device in devices:
        found.setdefault(device.process_index, []).append(device)
    return [found[process] for process in sorted(found)]


def placed(tree: Any, shardings: Any) -> Any:
    """Arrays and keys on the devices of shardings, some of which may be of other processes.

    Every process gives all of them. ``shardings`` is one, or a pytree that ``tree`` is like.
    """
    if isinstance(shardings, Sharding):
        return jax.tree.map(lambda x: _placed_one(x, shardings), tree)
    return jax.tree.map(_placed_one, tree, shardings)


def _placed_one(x: Any, sharding: Sharding) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _placed_one(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def row_devices(mesh: Mesh) -> int:
    """The number of parts that a mesh splits rows into."""
    return mesh.shape[AXIS]


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device of the mesh."""
    return NamedSharding(mesh, PartitionSpec())


def split_leading(mesh: Mesh) -> NamedSharding:
    """The leading axis, that of the rows, split over the devices of the mesh."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def put_once(sharding: NamedSharding) -> Callable[[Any], Any]:
    """A function that puts pytrees of arrays on devices; arrays that are equal share one there."""
    there: dict[tuple, jax.Array] = {}

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        digest = hashlib.sha256(np.ascontiguousarray(array)).digest()
        key = (array.shape, array.dtype.str, digest)
        if key not in there:
            there[key] = placed(array, sharding)
        return there[key]

    return lambda tree: jax.tree.map(put, tree)


def in_blocks(function: RowFunction, block: int) -> RowFunction:
    """The same function of rows, computed ``block`` of them at a time, one block after another."""

    def in_turn(mapped: Any, shared: Any) -> Any:
        rows = jax.tree.leaves(mapped)[0].shape[0]
        if rows <= block:
            return function(mapped, shared)
        blocks = jax.tree.map(lambda x: x.reshape(rows // block, block, *x.shape[1:]), mapped)
        results = jax.lax.map(lambda part: function(part, shared), blocks)
        return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), results)

    return in_turn


def split_rows(mesh: Mesh, block: int) -> Layout:
    """Rows split over the mesh, and computed ``block`` at a time on each device.

    On CPU one row at a time keeps what it works on in a core's cache; an accelerator
    wants all of them at once.
    """

    def spread(function: RowFunction) -> RowFunction:
        return jax.shard_map(
            in_blocks(function, block),
            mesh=mesh,
            in_specs=(PartitionSpec(AXIS), PartitionSpec()),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,  # scans inside start from unvarying zeros
        )

    return Layout(
        spread,
        lambda tree: jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec())),
    )


def default_block(rows_per_device: int) -> int:
    """One row at a time on CPU, all of them elsewhere."""
    return 1 if jax.default_backend() == "cpu" else rows_per_device
