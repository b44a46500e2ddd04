"""The persistent compilation cache, without what killed processes left half written in it.

JAX writes an entry in place and never again. One that was cut, by a kill or a full disk, would
cost every later process the whole compilation, and a warning.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from meta_train.files import write_text

CHECKED = ".checked"
"""Names of the entries that were seen to be whole, one a line."""


def remove_damaged_entries(folder: Path) -> list[str]:
    """Remove entries that cannot be read, and return their names; a process compiles them anew.

    Only entries that are new since the last time are looked at. One that another process is
    just writing may be removed too: it is compiled once more, and nothing else.
    """
    try:
        names = {path.name for path in folder.glob("*-cache")}
        checked = _checked(folder)
        damaged = sorted(name for name in names - checked if not _is_whole(folder / name))
        for name in damaged:
            (folder / name).unlink(missing_ok=True)
        whole = names - set(damaged)
        if whole != checked:
            write_text(folder / CHECKED, "".join(f"{name}\n" for name in sorted(whole)))
    except OSError:
        return []  # a cache that cannot be changed is used as it is
    return damaged


@contextmanager
def without_cache() -> Iterator[None]:
    """Compile, and do not read what was compiled before nor keep it: to time the compilation."""
    before = jax.config.values["jax_enable_compilation_cache"]
    _use_cache(False)
    try:
        yield
    finally:
        _use_cache(before)


def _use_cache(use: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", use)
    compilation_cache.reset_cache()  # which remembers whether it is used


def _checked(folder: Path) -> set[str]:
    try:
        return set((folder / CHECKED).read_text(encoding="utf-8", errors="replace").splitlines())
    except FileNotFoundError:
        return set()


def _is_whole(path: Path) -> bool:
    """Whether an entry can be unpacked, where it is packed by zlib; others count as whole."""
    content = path.read_bytes()
    if content and content[0] != 0x78:
        return True
    try:
        zlib.decompress(content)
    except zlib.error:
        return False
    return True
