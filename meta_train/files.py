"""Directories of results, and files in them, written whole or not at all."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meta_train.config import ConfigError

LOCK = ".lock"


def make_directory(directory: Path) -> None:
    """Make a directory that ``--workdir`` names, and see that files can be written in it.

    Raises:
      ConfigError: they cannot.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise ConfigError(
            f"--workdir={str(directory)!r} cannot be written to ({error.strerror}); choose another "
            "directory"
        ) from None


@contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """`make_directory`, and keep other processes out of it; a process that dies lets go.

    Raises:
      ConfigError: it cannot be written to, or another process works in it.
    """
    make_directory(directory)
    with open(directory / LOCK, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process works in --workdir={str(directory)!r}; wait for it, or choose "
                "another directory"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that a reader, or a crash, never sees half done."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of JSON; numbers that are not finite are an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
