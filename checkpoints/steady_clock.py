"""Wall-clock time that does not jump when the clock of the machine is set.

Orbax measures its timeouts by the wall clock: set forward, a checkpoint fails; set back, it waits.
"""

import sys
import time
from types import SimpleNamespace

_EPOCH = time.time() - time.monotonic()


def now() -> float:
    """Seconds since 1970 by the clock as it was when the process began."""
    return _EPOCH + time.monotonic()


_STEADY = SimpleNamespace(**{**vars(time), "time": now, "time_ns": lambda: int(now() * 1e9)})


def give_steady_clock(package: str) -> None:
    """Let the modules of a package that are imported by now read this clock as ``time``."""
    for name, module in list(sys.modules.items()):
        in_package = name == package or name.startswith(f"{package}.")
        if in_package and getattr(module, "time", None) is time:
            module.time = _STEADY  # type: ignore[attr-defined]
