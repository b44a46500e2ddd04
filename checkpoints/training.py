"""Checkpoints of a training state, by Orbax: the only module that knows it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class CheckpointError(OSError):
    """A checkpoint that cannot be read, and the way out."""


class TrainingCheckpoints:
    """Numbered checkpoints of a pytree of arrays in one directory.

    They are written in the background, each whole before it takes its name, so that a
    killed process leaves the ones before it.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int):
        """``keep``: how many of the newest checkpoints stay.

        Raises:
          OSError: the directory cannot be made.
        """
        self._directory = Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def latest(self) -> int | None:
        """The number of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Write ``state`` as checkpoint ``step``.

        Returns once the arrays are copied: their buffers may then be donated.

        Raises:
          CheckpointError: this checkpoint, or the one before it, could not be written.
        """
        # A view of a CPU buffer would change under the writer when it is donated.
        copied = jax.tree.map(lambda x: np.array(x, copy=True), state)
        with _as_checkpoint_errors(self._directory):
            self._manager.save(step, args=ocp.args.StandardSave(copied))

    def restore(self, step: int, like: Any) -> Any:
        """Checkpoint ``step`` as NumPy arrays.

        Args:
          step: a number that `latest` gave.
          like: a pytree of arrays or `jax.ShapeDtypeStruct` of the shapes to expect.

        Raises:
          CheckpointError: it is damaged, or holds another state.
        """
        template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        try:
            state = self._manager.restore(step, args=ocp.args.StandardRestore(template))
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise CheckpointError(
                f"checkpoint {str(self._directory / str(step))!r} is damaged or of another run "
                f"({_reason(error)}); remove this folder to go on from the one before"
            ) from error
        if jax.tree.map(np.shape, state) != jax.tree.map(np.shape, template):
            raise CheckpointError(
                f"checkpoint {str(self._directory / str(step))!r} has other shapes than this run's "
                "state: it is of another run; choose another directory"
            )
        return state

    def wait(self) -> None:
        """Return once every checkpoint is on disk; raises what writing one raised."""
        with _as_checkpoint_errors(self._directory):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

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


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:160]


def free_bytes(directory: str | os.PathLike[str]) -> int:
    """Free space where ``directory`` is or will be."""
    path = Path(directory).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
