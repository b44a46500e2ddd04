"""The zoo from the command line:

    python -m tasks list [--json | --markdown] [--split=SPLIT] [--domain=DOMAIN] [--offline]
    python -m tasks describe NAME…
    python -m tasks run NAME… [--optimizer=OPTIMIZER …] [--steps=N] [--output=FILE]
    python -m tasks prepare NAME… [--resolution=R]      of data sets, or of tasks

``--helpfull`` has all flags.
"""

import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from absl import app, flags

from tasks import AugmentationError, UnknownTaskError
from tasks.commands import describe, listed, prepare, run
from tasks.commands.arguments import CommandError

COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "list": listed.main,
    "describe": describe.main,
    "run": run.main,
    "prepare": prepare.main,
}
BAD_INPUT = (CommandError, UnknownTaskError, AugmentationError)


def fail(message: object, status: int) -> NoReturn:
    """End the process with one line on standard error."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    raise SystemExit(status)


def parse(argv: Sequence[str]) -> list[str]:
    """The arguments that are no flags: the command, and what it is for."""
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        fail(error, 2)
    except SystemExit:  # with 1, after --help
        raise SystemExit(0) from None
    if len(rest) < 2 or rest[1] not in COMMANDS:
        given = f"unknown command {rest[1]!r}" if len(rest) > 1 else "no command is given"
        fail(f"{given}; legal ones: {', '.join(COMMANDS)}", 2)
    return list(rest)


def main(argv: Sequence[str]) -> None:
    """Run the command; what a user got wrong becomes one line."""
    logging.getLogger("jax").setLevel(logging.ERROR)  # of backends that are not there
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what TFDS says of itself
    try:
        COMMANDS[argv[1]](argv[2:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BAD_INPUT as error:
        fail(error, 2)
    except OSError as error:
        if error.errno == errno.EPIPE:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        fail(error, 1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
