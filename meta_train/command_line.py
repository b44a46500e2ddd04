"""What the commands of this package share, beside what all commands do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from checkpoints import command_line
from checkpoints.command_line import fail, refuse_arguments, say
from learned_opt import OptimizerFormatError
from meta_train.config import ConfigError
from meta_train.hosts.place import HostsError
from meta_train.runtime import quiet_libraries
from tasks import AugmentationError, UnknownTaskError
from tasks.suites import UnknownSuiteError

BAD_INPUT = (
    ConfigError,
    UnknownTaskError,
    AugmentationError,
    UnknownSuiteError,
    OptimizerFormatError,
    HostsError,
)

__all__ = ["fail", "given_directory", "refuse_arguments", "run_command", "say"]


def given_directory(path: str) -> Path:
    """The directory that ``--workdir`` names, there or not.

    Raises:
      ConfigError: nothing, or a file, is named.
    """
    if not path.strip():
        raise ConfigError(f"--workdir={path!r} is empty; name a directory")
    directory = Path(path).expanduser()
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"--workdir={path!r} is a file; name a directory")
    return directory


def run_command(
    main: Callable[[], int | None],
    define: Callable[[Sequence[str]], None] | None = None,
    take: Callable[[Sequence[str]], None] = refuse_arguments,
) -> NoReturn:
    """`checkpoints.command_line.run_command` for what this package calls bad input."""

    def quietly() -> int | None:
        quiet_libraries()
        return main()

    command_line.run_command(quietly, BAD_INPUT, define=define, take=take)
