"""Checkpoints of a training state, by Orbax: the only module that knows it.

Beside the arrays of the state each holds whose it is, and a digest of what was saved: one of
another run, or one that a disk has changed, is refused.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from checkpoints.digest import checksums_of_part, digest, kinds
from checkpoints.steady_clock import give_steady_clock

give_steady_clock("orbax.checkpoint")

Gather = Callable[[str, Any], list[Any]]

DAMAGED = ".damaged."
"""Beginning of the name of a checkpoint that was set aside; Orbax does not see it."""


class CheckpointError(OSError):
    """A checkpoint that cannot be read, and the way out."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint of this run that cannot be read; the one before it may do."""


class Restored(NamedTuple):
    """``state`` of checkpoint ``step``, as NumPy arrays; what is wrong with newer ones."""

    step: int
    state: Any
    passed_over: list[str]


class TrainingCheckpoints:
    """Numbered checkpoints of a pytree of arrays in one directory.

    They are written in the background, each whole before it takes its name, so that a
    killed process leaves the ones before it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int,
        run: Mapping[str, Any],
        gather: Gather = lambda topic, value: [value],
    ):
        """Open, or make, a directory of checkpoints.

        Args:
          directory: where they are.
          keep: how many of the newest stay.
          run: JSON values that tell this run from others.
          gather: ``(topic, value) -> values`` of all processes of JAX, of which each writes its
            own shards.

        Raises:
          OSError: the directory cannot be made.
        """
        self._run, self._gather = dict(run), gather
        self._directory = Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._damaged: list[int] = []
        self._saved = False

    def latest(self) -> int | None:
        """The number of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def restore_newest(self, like: Any) -> Restored | None:
        """The newest checkpoint that can be read, or None where there is none at all.

        Those that are damaged stay as they are until the next is saved.

        Args:
          like: a pytree of arrays or `jax.ShapeDtypeStruct` of the shapes to expect.

        Raises:
          CheckpointError: all of them are damaged, or one holds another state.
        """
        passed_over: list[str] = []
        self._damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return Restored(step, self.restore(step, like), passed_over)
            except DamagedCheckpointError as error:
                passed_over.append(str(error))
                self._damaged.append(step)
        if passed_over:
            raise CheckpointError(
                f"none of the checkpoints can be read: {'; '.join(passed_over)}; nothing was "
                "changed: bring one back from a copy, or choose another directory to begin again"
            )
        return None

    def save(self, step: int, state: Any) -> None:
        """Write ``state`` as checkpoint ``step``.

        Returns once the arrays are copied: their buffers may then be donated.

        Raises:
          CheckpointError: this checkpoint, or the one before it, could not be written, or
            there is one of this number or a higher one.
        """
        copied = jax.tree.map(_copied, state)
        with _as_checkpoint_errors(self._directory):
            self._set_damaged_aside()
            identity = _sealed({"run": self._run, "digest": self._digest_of_all(step, copied)})
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(copied), identity=ocp.args.JsonSave(identity)
                ),
            )
        if not saved:
            raise CheckpointError(
                f"checkpoint {step} was not written to {str(self._directory)!r}: "
                f"there is checkpoint {self.latest()} already"
            )
        self._saved = True

    def restore(self, step: int, like: Any) -> Any:
        """Checkpoint ``step`` as NumPy arrays.

        Args:
          step: a number that `latest` gave.
          like: a pytree of arrays or `jax.ShapeDtypeStruct` of the shapes to expect.

        Raises:
          DamagedCheckpointError: it cannot be read, or is not what was saved.
          CheckpointError: it holds another state.
        """
        template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        name = f"checkpoint {str(self._directory / str(step))!r}"
        try:
            identity = self._restore(step, identity=ocp.args.JsonRestore()).identity
            if identity != _sealed(identity):
                raise ValueError("whose it is has changed")
            differing = "; ".join(differences(identity["run"], self._run))
            if not differing:
                state = self._restore(step, state=ocp.args.StandardRestore(template)).state
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise DamagedCheckpointError(f"{name} is damaged ({_reason(error)})") from error
        if differing:
            raise CheckpointError(
                f"{name} is of another run: {differing}; choose another directory"
            )
        if digest(state, [checksums_of_part(state, first=True)]) != identity["digest"]:
            raise DamagedCheckpointError(
                f"{name} is damaged (its arrays are not those that were saved)"
            )
        if kinds(state) != kinds(template):
            raise CheckpointError(
                f"{name} has other shapes than the state of this run; choose another directory"
            )
        return state

    def _restore(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _digest_of_all(self, step: int, state: Any) -> str:
        part = checksums_of_part(state, first=jax.process_index() == 0)
        return digest(state, self._gather(f"the digest of checkpoint {step}", part))

    def _set_damaged_aside(self) -> None:
        """Make their numbers free, for the run comes by them again."""
        if jax.process_index() == 0:
            for step in self._damaged:
                aside = self._directory / f"{DAMAGED}{step}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self._directory / str(step), aside)
        if self._damaged:
            self._gather("damaged checkpoints set aside", None)
            self._damaged = []
            self._manager.reload()

    def wait(self) -> None:
        """Return once every checkpoint is on disk; raises what writing one raised."""
        with _as_checkpoint_errors(self._directory):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        if self._saved:  # nobody needs them any more
            for aside in self._directory.glob(f"{DAMAGED}*"):
                shutil.rmtree(aside, ignore_errors=True)

    def close(self) -> None:
        """`wait`, then free the writers."""
        self.wait()
        self._manager.close()


@contextmanager
def _as_checkpoint_errors(directory: Path) -> Iterator[None]:
    """Make what Orbax and TensorStore raise one kind, with the system's error number if any."""
    try:
        yield
    except Exception as error:
        message = f"a checkpoint could not be written to {str(directory)!r} ({_reason(error)})"
        if "space left" in str(error) or "too large" in str(error):
            raise CheckpointError(errno.ENOSPC, message) from error
        raise CheckpointError(message) from error


def _sealed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a SHA-256 of the rest of it."""
    rest = {name: value for name, value in identity.items() if name != "seal"}
    text = json.dumps(rest, sort_keys=True)
    return {**rest, "seal": hashlib.sha256(text.encode()).hexdigest()}


def _copied(leaf: Any) -> Any:
    """The same array in buffers of its own: a view of a CPU buffer would keep the next call from
    taking the buffer over. In NumPy where this process has all of it.
    """
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.array(leaf, copy=True)
    shards = [jnp.copy(shard.data) for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)


def differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """In which settings a saved run is not one's own, in words."""
    return [
        f"{name} is {saved.get(name)!r} there and {own.get(name)!r} here"
        for name in sorted({*saved, *own})
        if saved.get(name) != own.get(name)
    ]


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:160]


def free_bytes(directory: str | os.PathLike[str]) -> int | None:
    """Free space where ``directory`` is or will be; None where that is not on a disk."""
    path = Path(directory).absolute()
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    return usage.free if usage.total else None
