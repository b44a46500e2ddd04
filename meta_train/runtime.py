"""JAX as a run needs it, and what it ran on."""

import asyncio
import importlib.metadata
import logging
import os
import platform
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jax

from learned_opt.kernels import native, pass_of_tensor
from meta_train.compilation_cache import remove_damaged_entries
from meta_train.config import ConfigError
from tasks.data.cache import cache_dir

VERSIONED = (
    "learned-opt", "jax", "jaxlib", "dm-haiku", "optax", "numpy", "orbax-checkpoint",
    "tensorflow-datasets",
)  # fmt: skip


def set_up_jax() -> None:
    """`configure_jax` and `find_devices`, for a command in one process."""
    configure_jax()
    find_devices()


def configure_jax(devices: int = 0, processes: int = 1) -> None:
    """Choose the CPU devices and the persistent compilation cache; before any computation.

    On CPU there is one device per core that the process may use (or its share of ``devices``,
    where the run has several ``processes``), unless XLA_FLAGS says how many; elsewhere there are
    those that there are. The cache is where JAX_COMPILATION_CACHE_DIR says, or in the user's
    cache folder; what is damaged in it is removed.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not told and os.environ.get("JAX_PLATFORMS", "").split(",")[0] in ("", "cpu"):
        jax.config.update("jax_num_cpu_devices", devices // processes or usable_cores())
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    if cache := jax.config.values["jax_compilation_cache_dir"]:
        remove_damaged_entries(Path(cache))


def find_devices() -> None:
    """Start JAX's backends.

    Raises:
      ConfigError: there is no device of the platform that JAX was told to use.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error) or "there is no such platform here"
        raise ConfigError(
            f"JAX finds no device to run on ({reason}); check JAX_PLATFORMS="
            f"{os.environ.get('JAX_PLATFORMS', '')!r}, or unset it"
        ) from None


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quiet_libraries() -> None:
    """Keep what libraries say about themselves out of a user's terminal."""
    warnings.filterwarnings("ignore", module="(orbax|tensorflow_datasets|etils|google)")
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    for name in ("jax", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet_failed_transfers()


def quiet_failed_transfers() -> None:
    """Once a write or read has failed, TensorStore prints a trace for every other array of it.

    Orbax has closed the event loop that they report to: let them report to nobody.
    """
    report = asyncio.BaseEventLoop.call_soon_threadsafe

    def report_if_open(loop: asyncio.BaseEventLoop, *args: Any, **kwargs: Any) -> Any:
        return None if loop.is_closed() else report(loop, *args, **kwargs)

    asyncio.BaseEventLoop.call_soon_threadsafe = report_if_open  # type: ignore[assignment,method-assign]


def provenance() -> dict[str, Any]:
    """Versions, code revision, machine and command, as JSON values."""
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "git_revision": git_revision(),
        "machine": machine(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "kernels": kernels(),
        "command": f"python -m {_module()} {shlex.join(sys.argv[1:])}",
    }


def machine() -> str:
    """System, processor and cores, in words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def versions() -> dict[str, str | None]:
    """Of the packages that results depend on."""
    return {name: _version(name) for name in VERSIONED}


def kernels() -> str:
    """Whether the steps of rules are compiled kernels here, or why they are not."""
    match jax.default_backend():
        case "cpu":
            reason = native.why_not()
        case "gpu":
            reason = pass_of_tensor.why_not()
        case _:
            return "none for this platform"
    return "compiled for this device" if reason is None else f"none: {reason}"


def _module() -> str:
    """The module that this process was started with."""
    spec = sys.modules["__main__"].__spec__
    name = Path(sys.argv[0]).name if spec is None else spec.name
    return name.removesuffix(".__main__")


def git_revision() -> str | None:
    """The commit of the checkout that this file is in, with ``-dirty`` where it is changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
