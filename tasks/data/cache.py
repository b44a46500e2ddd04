"""Arrays of data sets on disk: written once, atomically, and read without pickle."""

import contextlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from tasks.data.splits import ImageSet

Stored = TypeVar("Stored")


class FileFormat(NamedTuple, Generic[Stored]):
    """How a set is kept in a file: ``read(path)`` returns what ``write(path, it)`` wrote."""

    read: Callable[[Path], Stored]
    write: Callable[[Path, Stored], None]


def cache_dir() -> Path:
    """``LEARNED_OPT_CACHE``, or ``learned_opt`` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "learned_opt"
    return Path(os.environ.get("LEARNED_OPT_CACHE", default)).expanduser()


def cached_file(key: str) -> Path:
    """Where the set of a key is cached, or would be."""
    return cache_dir() / "data" / f"{key}.npz"


def load_or_make(key: str, make: Callable[[], Stored], file_format: FileFormat[Stored]) -> Stored:
    """The set cached under ``key``, or else ``make()``, cached for the next time.

    A damaged file is made anew; a cache that cannot be written is done without.
    """
    path = cached_file(key)
    try:
        return file_format.read(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        path.unlink(missing_ok=True)
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_format.write(path, made)
    except OSError:
        pass
    return made


def newest(pattern: str, file_format: FileFormat[Stored]) -> Stored | None:
    """The set cached last under a key of this pattern, and readable; or None."""
    every = (cache_dir() / "data").glob("*.npz")
    found = [path for path in every if re.fullmatch(pattern, path.stem)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            return file_format.read(path)
    return None


def read_image_set(path: Path) -> ImageSet:
    """Read what `write_image_set` wrote."""
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        test = (file["test_image"], file["test_label"]) if "test_image" in file else None
        return ImageSet(
            str(file["name"]),
            int(file["classes"]),
            (file["train_image"], file["train_label"]),
            test,
        )


def write_image_set(path: Path, images: ImageSet) -> None:
    """Write a set to ``path``: whole, or not at all."""
    arrays: dict[str, Any] = {
        "name": np.asarray(images.name),
        "classes": np.asarray(images.classes),
        "train_image": images.train[0],
        "train_label": images.train[1],
    }
    if images.test is not None:
        arrays |= {"test_image": images.test[0], "test_label": images.test[1]}
    write_arrays(path, arrays)


IMAGE_FORMAT = FileFormat(read_image_set, write_image_set)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to ``path``, compressed: whole, or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
