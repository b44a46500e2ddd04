"""What all commands share: flags, with one clear line for bad input."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import jax
from absl import app, flags


def say(message: str) -> None:
    """A line for the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


def fail(message: str, status: int = 1) -> NoReturn:
    """End the process with one line on standard error."""
    say(f"error: {' '.join(str(message).split())}")
    raise SystemExit(status)


def refuse_arguments(arguments: Sequence[str]) -> None:
    """What a command does with arguments that are no flags, unless it takes some."""
    if arguments:
        raise flags.Error(
            f"unexpected argument {arguments[0]!r}; settings are given as --name=value"
        )


def run_command(
    main: Callable[[], int | None],
    bad_input: tuple[type[Exception], ...],
    *,
    define: Callable[[Sequence[str]], None] | None = None,
    take: Callable[[Sequence[str]], None] = refuse_arguments,
) -> NoReturn:
    """Parse the flags and run ``main``; what a user got wrong becomes one line.

    The process ends with 0 or what ``main`` returns; with 2 for bad flags and for errors of
    the kinds ``bad_input``; with 1 for what the system refuses. ``define`` may define flags
    that depend on others of the command line; ``take`` is given the arguments that are no
    flags, and raises `flags.Error` for what it cannot take.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            if define is not None:
                define(argv)
            rest = flags.FLAGS(argv)
            take(rest[1:])
        except flags.Error as error:
            fail(str(error), status=2)
        except SystemExit:  # with 1, after --help
            raise SystemExit(0) from None
        return list(rest)

    def guarded(argv: Sequence[str]) -> int | None:
        del argv
        logging.getLogger("jax").setLevel(logging.ERROR)  # of backends that are not there
        try:
            return main()
        except KeyboardInterrupt:
            fail("interrupted", status=130)
        except bad_input as error:
            fail(str(error), status=2)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                say(f"error: no space left ({error}); free some and run the same command")
                os._exit(1)  # writers that flush at the exit would fail again, loudly
            fail(str(error))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
                raise
            first = str(error).splitlines()[0]
            fail(f"out of memory ({first}); choose a smaller task, or fewer particles at a time")

    app.run(guarded, flags_parser=parse)
    raise AssertionError("app.run does not return")
