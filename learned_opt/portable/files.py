"""Files of optimizers: found, read within bounds, and written whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from learned_opt.portable.errors import OptimizerFormatError

SUFFIX = ".safetensors"
THETA_FILE = "theta.safetensors"
MANIFEST_FILE = "manifest.json"


def read_bounded(path: Path, largest: int) -> bytes:
    """A file of at most ``largest`` bytes.

    Raises:
      OptimizerFormatError: it is longer, or no plain file.
    """
    if not path.is_file():
        raise OptimizerFormatError(f"{str(path.parent)!r} has no {path.name}")
    with open(path, "rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise OptimizerFormatError(f"{str(path)!r} is larger than the {largest} bytes it may have")
    return data


def replace_file(target: Path, data: bytes, is_ours: Callable[[Path], bool]) -> None:
    """A file with these bytes, written whole before it takes its name.

    Raises FileExistsError where the name is taken by something that is not ``is_ours``.
    """
    if target.is_symlink() or (target.exists() and not is_ours(target)):
        raise FileExistsError(
            f"{str(target)!r} is not the file of an optimizer; choose another one"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    try:
        _write(temporary, data)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """A directory with these files, written whole before it takes its name.

    Raises FileExistsError where something else than such a directory has the name.
    """
    if target.is_symlink() or (target.exists() and not _holds_only(target, files)):
        raise FileExistsError(
            f"{str(target)!r} is not the directory of an optimizer (it is a file, a link, or "
            f"holds more than {' and '.join(files)}); choose another one"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    older = target.with_name(f".{target.name}.older")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write(temporary / name, data)
        if target.exists():
            shutil.rmtree(older, ignore_errors=True)
            os.rename(target, older)
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if older.exists() and not target.exists():
            os.rename(older, target)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _holds_only(directory: Path, names: Iterable[str]) -> bool:
    return directory.is_dir() and {path.name for path in directory.iterdir()} <= {*names}
