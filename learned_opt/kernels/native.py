"""Compiled kernels for processors: built once with the system's C++ compiler, then kept.

The source lies beside this file. It is compiled for this very processor the first time that a
rule wants it (some seconds), into ``kernels`` of the cache folder, under a name that says what it
was made from. Without a compiler, or with ``LEARNED_OPT_KERNELS=off`` in the environment, rules
take their plain form, which is as exact and slower.
"""

import ctypes
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import jax

SOURCE = Path(__file__).with_name("step_of_tensor.cc")
TARGET = "learned_opt_step_of_tensor"
SWITCH = "LEARNED_OPT_KERNELS"
FLAGS = (
    "-std=gnu++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC",
    "-shared",
)  # fmt: skip
COMPILE_SECONDS = 120

_log = logging.getLogger("learned_opt")


class NoKernelError(RuntimeError):
    """A kernel could not be built or loaded here, and why."""


def available() -> bool:
    """Whether the kernels can be used in this process; builds and registers them the first time."""
    return switched_off() is None and why_not() is None


@contextmanager
def plain_forms() -> Iterator[None]:
    """Within, what is traced takes the plain form of every rule."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


@cache
def why_not() -> str | None:
    """Why rules take their plain form in this process; None where the kernels can be used."""
    try:
        library = _loaded()
        handler = jax.ffi.pycapsule(getattr(library, TARGET))
        jax.ffi.register_ffi_target(TARGET, handler, platform="cpu")
    except (NoKernelError, OSError, AttributeError, RuntimeError, ValueError) as error:
        _log.info("rules take their plain form: %s", error)
        return str(error)
    return None


def switched_off() -> str | None:
    """The environment's word against compiled kernels of every kind; None where there is none."""
    off = os.environ.get(SWITCH, "").lower() in ("off", "0", "false")
    return f"{SWITCH}={os.environ[SWITCH]!r}" if off else None


def _loaded() -> ctypes.CDLL:
    """The library, compiled where it is not there yet, and again where it is damaged.

    Raises:
      NoKernelError: there is no compiler, it fails, or kernels are switched off.
      OSError: the library cannot be written, or not be loaded.
    """
    if reason := switched_off():
        raise NoKernelError(reason)
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise NoKernelError("there is no C++ compiler here")
    path = _cache_folder() / f"{_fingerprint(compiler)}.so"
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            _log.info("%s is damaged and compiled again: %s", path, error)
    _compile(compiler, path)
    return ctypes.CDLL(str(path))


def _compile(compiler: str, library: Path) -> None:
    """Write the library whole or not at all."""
    _log.info("compiling the kernels of learned_opt for this processor, once")
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".") as folder:
        made = Path(folder) / library.name
        headers = ("-isystem", jax.ffi.include_dir())
        command = [compiler, *FLAGS, *headers, str(SOURCE), "-o", str(made)]
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS
            )
        except subprocess.CalledProcessError as error:
            reason = next(iter(error.stderr.splitlines()), f"status {error.returncode}")
            raise NoKernelError(f"{compiler} does not compile them: {reason}") from None
        except subprocess.TimeoutExpired:
            raise NoKernelError(f"{compiler} took over {COMPILE_SECONDS} s") from None
        os.replace(made, library)


def _fingerprint(compiler: str) -> str:
    """Of all that the library depends on: source, flags, compiler, XLA's headers, processor."""
    try:
        asked = [compiler, "--version"]
        version = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        raise NoKernelError(f"{compiler} does not say its version") from None
    facts = (
        SOURCE.read_text(encoding="utf-8"),
        FLAGS,
        version.stdout,
        importlib.metadata.version("jaxlib"),
        _processor(),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _processor() -> str:
    """What kind of processor this is, with the instructions it has where that is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    known = {
        line.partition(":")[2].strip()
        for line in lines
        if line.startswith(("model name", "flags", "Features"))
    }
    return repr((platform.machine(), platform.processor(), sorted(known)))


def _cache_folder() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "learned_opt"
    return Path(os.environ.get("LEARNED_OPT_CACHE", default)).expanduser() / "kernels"
