"""Directories of results, used by one process at a time, and files written whole or not at all."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meta_train.config import ConfigError

LOCK = ".lock"


@contextmanager
def working_directory(directory: Path) -> Iterator[None]:
    """Make the directory, and keep other processes out of it; a process that dies lets go.

    Raises:
      ConfigError: it cannot be made or written to, or another process works in it.
    """
    given = f"--workdir={str(directory)!r}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / LOCK, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(
            f"{given} cannot be written to ({error.strerror}); choose another directory"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process works in {given}; wait for it, or choose another directory"
            ) from None
        yield


def write_text(path: Path, text: str) -> None:
    """Write a file that a reader, or a crash, never sees half done."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of JSON; numbers that are not finite are an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
