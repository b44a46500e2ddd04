"""The memory that a run takes on a device: predicted before it is compiled, and what there is.

The prediction is what `footprint` finds in the program of an update: the state of all particles,
the data, and what is worked on at a time. XLA's own figure, after compiling, has been between two
thirds of it and as much again.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from meta_train.assemble import Run, streamed
from meta_train.config import ConfigError, MetaTrainConfig
from meta_train.footprint import peak_bytes
from meta_train.many_tasks import estimate_arguments

CGROUP_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Files of version 2 and 1 that say what a container may take, and what it takes."""

POOLS_AHEAD = 2
"""Of streamed data, beside the first: those that updates are made with, and the next."""


class Memory(NamedTuple):
    """Bytes on one device: ``state`` of the particles and of θ, ``data``, and ``work``, what is
    worked on at a time; ``available``: what there is, None where nobody says.
    """

    state: int
    data: int
    work: int
    available: int | None

    @property
    def total(self) -> int:
        """All that the run takes."""
        return self.state + self.data + self.work

    def in_words(self) -> str:
        """For the log."""
        there = "" if self.available is None else f" of the {_megabytes(self.available)} there"
        return (
            f"predicted to take {_megabytes(self.total)}{there} on each device: "
            f"{_megabytes(self.state)} of state, {_megabytes(self.data)} of data, "
            f"{_megabytes(self.work)} to work with"
        )


def predict(run: Run) -> Memory:
    """What the compiled update of a run will take; its programs are traced, not compiled.

    The traces are those that compiling needs too, and are made once for both. The programs of a
    list of tasks run one after the other, and the largest counts.
    """
    state = jax.eval_shape(run.training.init, run.key_init)
    advance, shardings = run.training.advance, run.training.shardings
    if len(run.families) == 1:
        rest = (jax.ShapeDtypeStruct((), jnp.int32), run.key_updates, run.data)
        work = _work(advance.trace(state, *rest), [(state, shardings)], rest)
    else:
        arguments = estimate_arguments(advance.programs, state, run.key_updates, run.data)
        work = max(
            _work(
                advance.programs.estimates[name].trace(gathered, task, *rest),
                [(gathered, None), (task, shardings.estimator[name])],
                rest,
            )
            for name, (gathered, task, *rest) in arguments.items()
        )
    held = sum(_sizes(state, shardings)), sum(_sizes(run.data)) + POOLS_AHEAD * _of_pools(run)
    return Memory(*held, work, available_bytes(run.config, run.mesh))


def _of_pools(run: Run) -> int:
    """Bytes of the training data that are streamed."""
    several = len(run.families) > 1
    pools = [(run.data[f.name] if several else run.data)["train"] for f in streamed(run)]
    return sum(_sizes(pools))


def needed_bytes(traced: Any, donated: tuple[Any, Any], rest: Sequence[Any]) -> int:
    """Bytes that a traced program takes on one device, its arguments among them: one that is
    ``donated``, with its shardings, and the ``rest``.
    """
    held = sum(_sizes(*donated)) + sum(_sizes(rest))
    return held + _work(traced, [donated], rest)


def _work(traced: Any, donated: Sequence[tuple[Any, Any]], rest: Sequence[Any]) -> int:
    """Bytes beyond its arguments that a traced program takes at most: those that are ``donated``,
    with their shardings, and the ``rest``.
    """
    first = [size for tree, shardings in donated for size in _sizes(tree, shardings)]
    others = _sizes(rest)
    of_donation = [True] * len(first) + [False] * len(others)
    peak = peak_bytes(traced.jaxpr.jaxpr, first + others, of_donation)
    return max(0, peak - sum(first) - sum(others))


def _sizes(tree: Any, shardings: Any = None) -> list[int]:
    """Bytes on one device of every leaf; whole where there are no shardings."""
    leaves = jax.tree.leaves(tree)
    if shardings is None:
        return [_bytes(leaf, leaf.shape) for leaf in leaves]
    return [
        _bytes(leaf, sharding.shard_shape(leaf.shape))
        for leaf, sharding in zip(leaves, jax.tree.leaves(shardings), strict=True)
    ]


def check_memory(config: MetaTrainConfig, block: int, memory: Memory) -> None:
    """Raise ConfigError for a run that does not fit, with what to lower.

    ``block``: the rows at a time that the run has, chosen or given.
    """
    if memory.available is None or memory.total <= memory.available:
        return
    raise ConfigError(
        f"the run is predicted to take {_megabytes(memory.total)} on each device, where "
        f"{_megabytes(memory.available)} are available: {_megabytes(memory.state)} for the state "
        f"of its particles, {_megabytes(memory.data)} for the data, {_megabytes(memory.work)} for "
        f"what it works on at a time; {_ways_out(config, block, memory)}; if the prediction is "
        "wrong, `config.memory_limit` (gigabytes a device) overrules what is available"
    )


def _ways_out(config: MetaTrainConfig, block: int, memory: Memory) -> str:
    """What to change, the part that takes most first."""
    work = [f"lower `config.block` ({block})"] if block > 1 else []
    if not config.rematerialize:
        work.append("set `config.rematerialize`")
    work += [
        f"raise `config.microbatches` ({config.microbatches})",
        f"raise `config.batch_devices` ({config.batch_devices})",
    ]
    state = [f"lower `config.particles` ({config.particles})", "or take more devices"]
    first, second = (state, work) if memory.state > memory.work else (work, state)
    return ", ".join(first + second)


def available_bytes(config: MetaTrainConfig, mesh: Mesh) -> int | None:
    """What one device of the mesh may take: the limit of the run, or what its machine has."""
    if config.memory_limit:
        return int(config.memory_limit * 1e9)
    return bytes_of_a_device(
        [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    )


def bytes_of_a_device(local: Sequence[jax.Device]) -> int | None:
    """What one of these devices of this process may take; None where nobody says."""
    if local[0].platform == "cpu":
        free = free_memory()
        return None if free is None else free // len(local)
    limits = [(d.memory_stats() or {}).get("bytes_limit") for d in local]
    return min((limit for limit in limits if limit), default=None)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of main memory that this process can still take; None where the system tells not."""
    found = [_available_of_machine(root / "proc" / "meminfo")]
    found += [
        _left_of_limit(root / "sys/fs/cgroup" / limit, root / "sys/fs/cgroup" / used)
        for limit, used in CGROUP_LIMITS
    ]
    return min((free for free in found if free is not None), default=None)


def _available_of_machine(meminfo: Path) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


def _left_of_limit(limit: Path, used: Path) -> int | None:
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # there is none, or it is "max"
        return None


def _bytes(leaf: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * leaf.dtype.itemsize


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e10 else f"{size / 1e6:,.1f} MB"
