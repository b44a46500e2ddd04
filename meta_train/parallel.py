"""How the rows of a batched computation are spread over devices, and in time on each.

The rows are the pairs of particles of an estimator, or the training runs of an evaluation.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from meta_train.estimators.base import Layout, RowFunction

AXIS = "rows"
BATCH_AXIS = "batch"


def device_mesh(
    rows: int, devices: Sequence[jax.Device] | None = None, *, batch_devices: int = 1
) -> Mesh:
    """A mesh of as many devices as divide the rows evenly.

    With ``batch_devices`` above 1, each is a group of so many, along `BATCH_AXIS`.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = max(n for n in range(1, len(devices) // batch_devices + 1) if rows % n == 0)
    if batch_devices == 1:
        return Mesh(np.asarray(devices[:count]), (AXIS,))
    groups = np.asarray(devices[: count * batch_devices]).reshape(count, batch_devices)
    return Mesh(groups, (AXIS, BATCH_AXIS))


def row_devices(mesh: Mesh) -> int:
    """The number of parts that a mesh splits rows into."""
    return mesh.shape[AXIS]


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device of the mesh."""
    return NamedSharding(mesh, PartitionSpec())


def split_leading(mesh: Mesh) -> NamedSharding:
    """The leading axis, that of the rows, split over the devices of the mesh."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


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
